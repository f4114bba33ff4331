"""An ONNX graph in the making: nodes are added one after the other, and every value has a name of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inkfold.errors import ExportError

try:
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper
except ImportError:
    raise ExportError("export: needs onnx and onnxruntime. Install them: pip install 'inkfold[export]'.") from None

__all__ = ["IR_VERSION", "OPSET", "Graph", "helper", "onnx", "onnxruntime"]  # whoever needs onnx takes it from here

OPSET = 18  # the first whose reductions all take their axes as an input; every runtime of the last years reads it
IR_VERSION = 10


class Graph:
    """Collects nodes and constants; a branch of an `If` sees the values of the graph that it is in.

    Args:
        outer: The graph around a branch.
    """

    def __init__(self, outer: "Graph | None" = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._names: list[int] = [0] if outer is None else outer._names
        self._root: Graph = self if outer is None else outer._root

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output.

        Args:
            kind: ONNX's operator.
            inputs: Names of values; an empty one leaves an optional input out.
            attributes: The operator's own.

        Returns:
            The output's name.
        """
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs; see `op`."""
        names = [self._name(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def const(self, value: Any, dtype: Any = None) -> str:
        """Add a constant; equal ones are kept once.

        Args:
            value: An array, or what becomes one.
            dtype: NumPy's; None takes the value's own.

        Returns:
            Its name.
        """
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        key = (str(array.dtype), array.shape, array.tobytes())
        root = self._root
        if key not in root._known:
            root._known[key] = name = self._name("const")
            root.constants[name] = numpy_helper.from_array(array, name)
        return root._known[key]

    def ints(self, *values: int) -> str:
        """Add a list of whole numbers, such as axes."""
        return self.const(values, np.int64)

    def branch(self) -> "Graph":
        """Start a branch of an `If`."""
        return Graph(self)

    def choose(self, condition: str, yes: "Graph", no: "Graph", results: tuple[str, str]) -> str:
        """Add an `If` with one output.

        Args:
            condition: One truth value.
            yes: The branch that is taken where it is true.
            no: The other.
            results: What each gives.

        Returns:
            The output's name.
        """
        bodies = [branch._body(result) for branch, result in zip((yes, no), results, strict=True)]
        return self.op("If", condition, then_branch=bodies[0], else_branch=bodies[1])

    def inline(self, model: onnx.ModelProto, inputs: Mapping[str, str]) -> list[str]:
        """Add a whole model.

        Args:
            model: Of the same opset, without branches.
            inputs: Which of this graph's values are its inputs.

        Returns:
            Its outputs.
        """
        mark, named = self._name("part"), dict(inputs)
        named[""] = ""

        def rename(name: str) -> str:
            return named.setdefault(name, f"{mark}/{name}")

        for constant in model.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(constant)
            copy.name = rename(constant.name)
            self.constants[copy.name] = copy
        for node in model.graph.node:
            own = onnx.NodeProto()
            own.CopyFrom(node)
            own.input[:] = [rename(name) for name in node.input]
            own.output[:] = [rename(name) for name in node.output]
            own.name = f"{mark}/{node.name}" if node.name else ""
            self.nodes.append(own)
        return [rename(output.name) for output in model.graph.output]

    def call(self, value: str, name: str) -> str:
        """Give a value the name that users see."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        return name

    def model(
        self,
        inputs: Mapping[str, tuple[Any, Sequence[int | str]]],
        outputs: Mapping[str, Sequence[int | str]],
        metadata: Mapping[str, str],
        domains: Sequence[onnx.OperatorSetIdProto] = (),
    ) -> onnx.ModelProto:
        """Finish.

        Args:
            inputs: Type and shape of each.
            outputs: Shape of each, float32.
            metadata: Texts that go with it.
            domains: Further operator sets that inlined parts use.

        Returns:
            The model.
        """
        given = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(t)), s) for n, (t, s) in inputs.items()
        ]
        found = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "inkfold", given, found, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET), *domains]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="inkfold")
        helper.set_model_props(model, dict(metadata))
        return model

    def _name(self, kind: str) -> str:
        self._names[0] += 1
        return f"{kind}_{self._names[0]}"

    def _body(self, result: str) -> onnx.GraphProto:
        made = {name for node in self.nodes for name in node.output}
        if result not in made:  # a branch may not give out what it has only seen
            result = self.op("Identity", result)
        output = onnx.ValueInfoProto(name=result)
        return helper.make_graph(self.nodes, self._name("branch"), [], [output])
