"""What importing data costs."""

import subprocess
import sys


def test_data_needs_no_torch_and_no_heavy_library_until_it_is_used():
    program = ("import sys, r1mega.data\n"
               "heavy = "
               "{'torch', 'megatron', 'transformers', 'datasets', 'reasoning_gym', 'pyarrow', 'sympy'}\n"
               "print(sorted(heavy & set(sys.modules)))\nfrom r1mega.data import pack\nprint('torch' in "
               "sys.modules, 'megatron' in sys.modules)")
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["[]", "True False"]
