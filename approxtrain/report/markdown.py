"""report.md: the document as Markdown, its pictures as the files beside it."""

from __future__ import annotations

from approxtrain.report.document import Block, Bullets, Cell, Document, Facts, Figure, Paragraph, Table


def render(document: Document) -> str:
    parts = [f"# {document.title}"]
    for section in document.sections:
        parts.append(f"## {section.title}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return block.text
        case Bullets():
            return "\n".join(f"- {item}" for item in block.items)
        case Facts():
            return "\n".join(f"- {name}: {'; '.join(said)}" for name, said in block.items)
        case Table():
            return _table(block)
        case Figure():
            pictures = [f"![{picture.alt}](figures/{picture.name}.png)" for picture in block.pictures]
            return "\n".join([*pictures, "", block.caption])


def _table(table: Table) -> str:
    lines = [table.header, ["---"] * len(table.header), *([_cell(cell) for cell in row] for row in table.rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cell(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text
