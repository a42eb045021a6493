"""Code in several languages, formats of extracted line numbers, and text with other ascending numbers."""

from __future__ import annotations

from collections.abc import Callable

LISTINGS = {
    "C": """static int parse(struct reader *in, char *out, size_t room)
{
	size_t used = 0;

	while (in->left > 0 && used + 1 < room) {
		int byte = next(in);
		if (byte < 0)
			return -EIO;
		out[used++] = byte & 0x7f;
	}

	out[used] = '\\0';
	return used;
}""",
    "C++": """template <typename Key, typename Value>
class Cache {
 public:
  explicit Cache(std::size_t room) : room_{room} {}

  std::optional<Value> get(const Key& key) {
    auto found = entries_.find(key);
    if (found == entries_.end()) return std::nullopt;
    order_.splice(order_.begin(), order_, found->second);
    return found->second->second;
  }

 private:
  std::size_t room_;
};""",
    "Rust": """impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find('\\n').unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix('\\n').unwrap_or(rest);
        Some(line)
    }
}""",
    "Python": """from pathlib import Path

def load(path, default=None):
    \"\"\"Read a table.\"\"\"
    rows = {}
    for line in Path(path).read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        key, _, value = line.partition("=")
        rows[key.strip()] = value.strip() or default

    return rows""",
    "shell": """#!/bin/sh
set -eu

for file in "$@"; do
    name=$(basename "$file" .txt)
    if [ ! -s "$file" ]; then
        echo "$name: empty" >&2
        continue
    fi
    sort -u "$file" > "out/$name.sorted"
done
exit 0""",
    "SQL": """CREATE TABLE orders (
  id bigint PRIMARY KEY,
  customer text NOT NULL,
  placed date DEFAULT now()
);

SELECT customer, count(*) AS orders, sum(price) AS paid
FROM orders
JOIN lines USING (order_id)
WHERE placed >= '2020-01-01'
GROUP BY customer
HAVING count(*) > 3
ORDER BY paid DESC;""",
    "Haskell": """module Tree where

data Tree a = Leaf | Node (Tree a) a (Tree a)

insert :: Ord a => a -> Tree a -> Tree a
insert x Leaf = Node Leaf x Leaf
insert x t@(Node l y r)
  | x < y = Node (insert x l) y r
  | x > y = Node l y (insert x r)
  | otherwise = t

toList :: Tree a -> [a]
toList = foldr (:) []""",
    "assembly": """        .globl  square
square:
        pushq   %rbp
        movq    %rsp, %rbp
        movl    %edi, -4(%rbp)
        movl    -4(%rbp), %eax
        imull   %eax, %eax
        cmpl    $0, %eax
        jge     .L2
        negl    %eax
.L2:
        popq    %rbp
        ret""",
    "YAML": """services:
  web:
    image: "nginx:1.25"
    ports:
      - "8080:80"
    environment:
      - MODE=production
  db:
    image: postgres
    volumes:
      - data:/var/lib/postgresql
volumes:
  data: {}""",
    "Markdown": """# Using the tool

Run it with `tool --in FILE`:

```sh
tool --in data.csv --out result.json
```

* `--in`: what to read
* `--out`: what to write

See the [manual](https://tool.test/manual).""",
}


def _before(form: str) -> Callable[[str, int], str]:
    """Put a number before each line."""
    return lambda code, first: "\n".join(form.format(n=n, line=line) for n, line in enumerate(code.split("\n"), first))


def _stuck(code: str, first: int) -> str:
    return "\n".join(f"{n}{line.strip()}" for n, line in enumerate(code.split("\n"), first))


def _apart(between: str, form: str = "{n}") -> Callable[[str, int], str]:
    """Put all numbers before the code."""
    return lambda code, first: between.join(form.format(n=first + i) for i in range(code.count("\n") + 1)) + "\n" + code


FORMS: dict[str, Callable[[str, int], str]] = {
    "blank": _before("{n} {line}"),
    "tab": _before("{n}\t{line}"),
    "aligned": _before("{n:>5}  {line}"),
    "zero-padded": _before("{n:04} {line}"),
    "dot": _before("{n}. {line}"),
    "colon": _before("{n}: {line}"),
    "bar": _before("{n:>3} | {line}"),
    "bar, no blanks": _before("{n}|{line}"),
    "brackets": _before("[{n}] {line}"),
    "no-break space": _before("{n}\u00a0{line}"),
    "stuck": _stuck,
    "column": _apart("\n"),
    "column, blank lines": _apart("\n\n"),
    "column, zero-padded": _apart("\n", "{n:03}"),
    "column with dots": _apart("\n", "{n}."),
    "column with colons": _apart("\n", "{n}:"),
    "row": _apart(" "),
    "row, tabs": _apart("\t"),
    "row, no-break spaces": _apart("\u00a0"),
    "line ends lost": lambda code, first: " ".join(f"{n} {line.strip()}" for n, line in enumerate(code.split("\n"), first)),
    "CRLF": lambda code, first: _before("{n} {line}")(code, first).replace("\n", "\r\n"),
    "CRLF column": lambda code, first: _apart("\n")(code, first).replace("\n", "\r\n"),
}  # fmt: skip
FIRST = (1, 480)


def _dump(form: str, step: int = 16, first: int = 0, between: str = "\n") -> str:
    return between.join(form.format(n=first + step * i, byte=i) for i in range(16))


_SIZES = (1, 3, 7, 2, 4, 4, 2, 5, 1, 1, 4, 5)
ADDRESSES = {
    "hexdump": _dump("{n:08x}  {byte:02x} 45 4c 46 02 01 01 00  |.ELF....|"),
    "hexdump with colons": _dump("{n:08x}: 7f45 4c46 02{byte:02x} 0100"),
    "hexdump of short offsets": _dump("0x{n:04X} {byte:02X} 00"),
    "row": _dump("{n:04x}", between=" ") + "\n7f 45 4c 46",
    "row in prose": "What is in it.\n" + _dump("0x{n:04X}", between=" ") + "\nThe end.",
    "column": _dump("{n:08X}", first=0x401000) + "\n7f 45 4c 46",
    "disassembly": "\n".join(
        f"  {0x401136 + sum(_SIZES[:i]):x}:\t{'55 ' * size}\tpush   %rbp" for i, size in enumerate(_SIZES)
    ),
    "addresses of 16 digits": "\n".join(
        f"0x{0x401136 + sum(_SIZES[:i]):016x} <+{i}>:\tpush   %rbp" for i in range(len(_SIZES))
    ),
    "of a kernel": "\n".join(
        f"ffffffff{0x81044290 + sum(_SIZES[:i]):x}:       55 \tpush   %rbp" for i in range(len(_SIZES))
    ),
    "hexdump without lines like the one before": "\n".join(
        "*" if 8 <= n <= 10 else f"{16 * n:08x}  {n:02x} 45 4c 46 02" for n in range(20)
    ),
    "disassembly of a shared object": "".join(
        ("\n0000000000004028 <f@plt>:\n" if i == 6 else "") + f"    {0x4012 + sum(_SIZES[:i]):x}:\tc3   \tret\n"
        for i in range(len(_SIZES))
    ),
}
WORDS = "Then he went up to the city and they spoke to him of many things"
HARMLESS = {
    "code points": "\n".join(f"{n:04X} LETTER {chr(n)}" for n in range(0x100, 0x200)),
    "a charset's map": "\n".join(f"0x{n:02X}\t0x{n:04X}\t# LETTER" for n in range(256)),
    "a mapping of code points": "".join(f"    0x{0x2500 + 3 * n + n % 2:04x}: 0x{n:04x},\n" for n in range(60)),
    "product ids": "\n".join(f"{0x1002 + n * 7 + n % 5:04x}  Some device" for n in range(200)),
    "registers": "\n\n".join(f"{0x2800 + 4 * n:04x}\nbit 0: enable" for n in range(20)),
    "names that are hexadecimal": "\n".join(f"            a{n}1 = a{n}2 = \\" for n in range(10, 30)),
    "decades": "\n".join(f"{n}  a thing happened" for n in range(1900, 2000, 10)),
    "bugs of a changelog": "\n".join(f"{491957 + n * 5 + n % 4}: {WORDS}" for n in range(30)),
    "years of a chronicle": "\n".join(f"{1800 + n * 5 + n % 4}: {WORDS}" for n in range(30)),
    "labels": "\n".join(f"add{n}: x = {n};" for n in (0, 1, 2, 4, 5, 7, 8, 9, "a", "c", "d", "f")),
    "postal codes": "\n".join(f"{1067 + n * 3 + n % 2:05}  Dresden" for n in range(60)),
    "a timetable": "\n".join(f"{8 + n // 2:02}{30 * (n % 2):02} {WORDS}" for n in range(20)),
    "a bibliography": "\n".join(f'[{n}] A. Author, "{WORDS}", 2020.' for n in range(1, 40)),
    "error codes": "\n".join(f"{22000 + 11 * n % 60}\t\tstring_data_{n}" for n in range(60)),
    "a log": "\n".join(f"2026-11-23 10:{n:02}:00 [main] x={n}; y={{}}" for n in range(60)),
    "CSV": "\n".join(f"{n},{n * n},name_{n},(x)" for n in range(1, 60)),
    "what a loop printed": '>>> for i in ii: print(i, end=" ")\n...\n1 2 3 4 5 6 7 8 9 10\n' + LISTINGS["Python"],
    "heads of a diagram": "The pins.\n\n        1  2   3  4  5  6   7  8  9 10\n  S1   /--------\\\n" * 3,
    "days of a month": " ".join(map(str, range(1, 32))) + "\n" + WORDS,
    "sections": "\n".join(f"{n}. {WORDS} (see {n}.1)" for n in range(1, 30)),
    "psql": "\n".join(f" {n:>3} | {n * 37:>5} | {{a,b}} | f(x)" for n in range(1, 40)),
    "statements of BASIC in prose": ", ".join(f"line {n}" for n in range(10, 200, 10)),
    "an array over lines": "int t[] = {\n" + "".join(f"    {n}, /* {WORDS} */\n" for n in range(40)) + "};",
}
PROSE = "The page tells how the thing is used, and what to watch for when it is not there.\n"
