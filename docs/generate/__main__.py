"""`python -m docs.generate`: write every generated page; its name is printed where it changed."""

from docs.generate.pages import DOCS, PAGES

for name, text in PAGES.items():
    path, content = DOCS / name, text()
    if not path.is_file() or path.read_text() != content:
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        print(f"docs/{name}")
