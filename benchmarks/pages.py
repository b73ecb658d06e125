"""Tables in pages, between two marks, and the results from which they are made."""

import json


def shown(page, mark):
    """Return what stands in a page between the marks of this name."""
    return page.read_text().partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0]


def put(page, mark, text):
    """Replace what stands in a page between the marks of this name."""
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


def with_kept(records, path, field, order):
    """Return records, and those of an earlier run of which there are no new ones, in this order."""
    new = {record[field] for record in records}
    kept = json.loads(path.read_text())["records"] if path.exists() else []
    both = [*records, *(record for record in kept if record[field] not in new)]
    return sorted(both, key=lambda record: order.index(record[field]))


def keep(path, run):
    """Write results as JSON."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n")
