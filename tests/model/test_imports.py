"""What costs and commands import stays light: shapes and graphs do not load torch."""

import subprocess
import sys


def test_shapes_and_graphs_do_not_load_torch():
    code = (
        "import sys, systolith_model.workload as w, systolith_model.zoo as z\n"
        "w.training_graph(z.architecture('llama-2-7b'), tokens=1)\n"
        "z.architecture(str(z.checkpoint_folder()))\n"
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    path = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
