"""Print the project's files with the first sentence of each; `--write` puts the list into README.md."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- files -->\n```text\n", "```\n<!-- end of files -->"
FOLDERS = ("asap_viewer", "core", "trainers", "benchmarks", "scripts")
WIDTH = 34
LONGEST = 118


def first_sentence(path: Path) -> str:
    """What a file says of itself: its docstring's or leading comment's first sentence."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        words = ast.get_docstring(ast.parse(text)) or ""
    else:
        comments = [line for line in text.splitlines() if line.startswith(("// ", "/* ", "# "))]
        words = comments[0].strip("/*# ") if comments else ""
    line = words.split("\n\n")[0].replace("\n", " ")
    return line.split(". ")[0].rstrip(".")


def files_of(folder: Path) -> list[Path]:
    """Source files directly in a folder, by name; the package's own docstring is the folder's gloss."""
    kinds = (".py", ".js", ".css", "")
    return sorted(
        path for path in folder.iterdir() if path.is_file() and path.suffix in kinds and path.name != "__init__.py"
    )


def folders_of(folder: Path) -> list[Path]:
    """Folders below, by name, without caches."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(("_", ".")))


def tree_of(folder: Path, depth: int = 0) -> list[str]:
    """One line per folder and file."""
    package = folder / "__init__.py"
    gloss = first_sentence(package) if package.exists() else ""
    lines = [_line(depth, f"{folder.name}/", gloss)]
    lines += [_line(depth + 1, path.name, first_sentence(path)) for path in files_of(folder)]
    for below in folders_of(folder):
        lines += tree_of(below, depth + 1)
    return lines


def _line(depth: int, name: str, gloss: str) -> str:
    line = f"{'  ' * depth + name:<{WIDTH}} {gloss}".rstrip()
    return line if len(line) <= LONGEST else line[: LONGEST - 2].rsplit(" ", 1)[0] + " …"


def project_tree() -> str:
    """The whole list."""
    lines = [_line(0, "app.py", first_sentence(ROOT / "app.py"))]
    for name in FOLDERS:
        lines += tree_of(ROOT / name)
    lines.append(_line(0, "tests/", "mirrors the tree above; synthetic data, and real CT where ../shared is present"))
    return "\n".join(lines) + "\n"


def listed_tree() -> str:
    """The list as README.md has it."""
    return README.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def main(arguments: list[str]) -> None:
    """Print, or write."""
    if "--write" not in arguments:
        sys.stdout.write(project_tree())
        return
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    README.write_text(before + BEGIN + project_tree() + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
