"""Builds an ONNX graph node by node; every value gets a unique name."""

from collections.abc import Callable, Mapping, Sequence
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
    """A list of nodes and constants; a branch of an `If` sees the values of the graph around it.

    Args:
        outer: The graph around a branch; None for a whole graph.
    """

    def __init__(self, outer: "Graph | None" = None) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._names: list[int] = [0] if outer is None else outer._names
        self._root: Graph = self if outer is None else outer._root

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, whose name is returned.

        Args:
            kind: Name of the ONNX operator, such as `MatMul`.
            inputs: Names of values; an empty name omits an optional input.
            attributes: The operator's ONNX attributes by name, such as `axis=1`.
        """
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs; see `op`."""
        names = [self._name(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def const(self, value: Any, dtype: Any = None) -> str:
        """Add a constant, whose name is returned; equal constants are stored once.

        Args:
            value: An array, a number or a sequence of numbers.
            dtype: NumPy's data type; None keeps that of the value.
        """
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        key = (str(array.dtype), array.shape, array.tobytes())
        root = self._root
        if key not in root._known:
            root._known[key] = name = self._name("const")
            root.constants[name] = numpy_helper.from_array(array, name)
        return root._known[key]

    def ints(self, *values: int) -> str:
        """Add a constant list of integers, such as axes."""
        return self.const(values, np.int64)

    def branch(self) -> "Graph":
        """Start a branch of an `If`."""
        return Graph(self)

    def choose(self, condition: str, yes: "Graph", no: "Graph", results: tuple[str, str]) -> str:
        """Add an `If` with one output, whose name is returned.

        Args:
            condition: Name of a boolean scalar that decides which branch is computed.
            yes: The branch that is taken if it is true.
            no: The branch that is taken if it is false.
            results: Names of the branches' outputs, that of `yes` first.
        """
        bodies = [branch._body(result) for branch, result in zip((yes, no), results, strict=True)]
        return self.op("If", condition, then_branch=bodies[0], else_branch=bodies[1])

    def each(self, count: str, build: Callable[["Graph", str], str]) -> str:
        """Add a `Loop` over 0, 1, ... with the results stacked along a new first axis; returns the stack's name.

        Args:
            count: Name of the number of rounds, a single whole number.
            build: Adds one round's nodes to the given body and returns its result; it is passed the round's number.
        """
        body = self.branch()
        number, before = body._name("round"), body._name("before")
        result = build(body, number)
        after = body.op("Identity", before)
        graph = body._loop([number, before], [(after, onnx.TensorProto.BOOL)], [result])
        return self.op("Loop", count, self.const(True), body=graph)

    def settle(self, start: str, build: Callable[["Graph", str], str]) -> str:
        """Add a `Loop` that replaces a float32 value until a round leaves it as it is; returns the last value's name.

        Args:
            start: Name of the value before the first round.
            build: Adds one round's nodes to the given body and returns the new value; it is passed the value before.
        """
        body = self.branch()
        number, before, value = (body._name(kind) for kind in ("round", "before", "value"))
        replaced = build(body, value)
        changed = body.op("ReduceMax", body.op("Cast", body.op("Not", body.op("Equal", replaced, value)), to=6), keepdims=0)
        more = body.op("Cast", changed, to=9)
        graph = body._loop([number, before, value], [(more, onnx.TensorProto.BOOL)], [replaced])
        return self.op("Loop", "", self.const(True), start, body=graph)

    def inline(self, model: onnx.ModelProto, inputs: Mapping[str, str]) -> list[str]:
        """Add all nodes and weights of a model, and return its outputs' names in this graph.

        Args:
            model: A model of the same opset, without branches.
            inputs: Maps the names of the model's inputs to names of this graph's values.
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
        """Give a value the name under which users of the file read it."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        return name

    def model(
        self,
        inputs: Mapping[str, tuple[Any, Sequence[int | str]]],
        outputs: Mapping[str, Sequence[int | str]],
        metadata: Mapping[str, str],
        domains: Sequence[onnx.OperatorSetIdProto] = (),
    ) -> onnx.ModelProto:
        """Turn the graph into an ONNX model with inputs and outputs.

        Args:
            inputs: Data type and shape of each input, by its name.
            outputs: Shape of each output, by its name; all are float32.
            metadata: Texts that are stored in the model's metadata.
            domains: Further operator sets that inlined models use.
        """
        input_infos = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(t)), s) for n, (t, s) in inputs.items()
        ]
        output_infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self.nodes, "inkfold", input_infos, output_infos, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET), *domains]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="inkfold")
        helper.set_model_props(model, dict(metadata))
        return model

    def _name(self, kind: str) -> str:
        self._names[0] += 1
        return f"{kind}_{self._names[0]}"

    def _loop(self, inputs: Sequence[str], typed: Sequence[tuple[str, int]], results: Sequence[str]) -> onnx.GraphProto:
        """Make a loop's body: a round's number, whether to go on, and carried float32 values; the same out of it."""
        kinds = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
        taken = [helper.make_tensor_value_info(name, kind, []) for name, kind in zip(inputs, kinds, strict=False)]
        taken += [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inputs[2:]]
        given = [helper.make_tensor_value_info(name, kind, []) for name, kind in typed]
        given += [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in results]
        return helper.make_graph(self.nodes, self._name("body"), taken, given)

    def _body(self, result: str) -> onnx.GraphProto:
        made = {name for node in self.nodes for name in node.output}
        if result not in made:  # a branch can't output a value of the graph around it directly
            result = self.op("Identity", result)
        output = onnx.ValueInfoProto(name=result)
        return helper.make_graph(self.nodes, self._name("branch"), [], [output])
