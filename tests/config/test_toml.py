"""Line numbers and writing, which the standard library lacks."""

import tomllib
from datetime import date

from r1mega.config.toml_lines import key_lines
from r1mega.config.toml_write import toml_text

TEXT = '''\
# a comment with [brackets] and = signs
top = 1
"quoted key" = """
not = a key
[nor a table]
"""
a.b = [  # comment ]
  1,
  "x = ]",
]
[table]  # header comment
key = 'literal \\'
inline = { x = 1, y = { z = 2 } }
[[list]]
name = "first"
[list.sub]
deep = true
[[list]]
name = "second"
'''


def test_lines_of_keys_tables_and_list_elements() -> None:
    tomllib.loads(TEXT)  # it is TOML
    assert key_lines(TEXT) == {
        ("top",): 2, ("quoted key",): 3, ("a",): 7, ("a", "b"): 7,
        ("table",): 11, ("table", "key"): 12, ("table", "inline"): 13,
        ("list", 0): 14, ("list", 0, "name"): 15, ("list", 0, "sub"): 16, ("list", 0, "sub", "deep"): 17,
        ("list", 1): 18, ("list", 1, "name"): 19,
    }


def test_what_is_written_reads_back_with_the_same_types() -> None:
    tree = {
        "int": 3, "float": 3.0, "tiny": 1e-30, "big": 1e300, "inf": float("inf"), "true": True, "none": None,
        "text": 'a "b" \\ \n\t\x00\x1f\x7f é 数 \U0001f600', "day": date(2024, 1, 2), "odd key.with dot": 1,
        "list": [1, 2.5, "x", [True]], "empty": [], "table": {"a": {"b": {}}, "c": 1},
        "tables": [{"x": 1, "in": {"y": 2}}, {"x": 2, "more": [{"z": 1}]}, {}],
    }
    back = tomllib.loads(toml_text(tree))
    del tree["none"]
    assert back == tree
    assert [type(back[name]) for name in ("int", "float", "true")] == [int, float, bool]
