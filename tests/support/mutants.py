"""Mutants of Python functions: the same code with one small mistake."""

import ast
import copy
from collections.abc import Iterator

_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def make_mutants(code: str) -> list[str]:
    """Every mutant, each once, in the order of the places that they change."""
    tree = ast.parse(code)
    places = range(len([*ast.walk(tree)]))
    changed = [ast.unparse(ast.fix_missing_locations(each)) for place in places for each in _change(tree, place)]
    return [mutant for mutant in dict.fromkeys(changed) if mutant != ast.unparse(tree)]


def _change(tree: ast.Module, place: int) -> Iterator[ast.Module]:
    changed = copy.deepcopy(tree)
    match [*ast.walk(changed)][place]:
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp() as node if type(node.op) in _SWAPS:
            node.op = _SWAPS[type(node.op)]()
        case ast.Compare() as node if type(node.ops[0]) in _SWAPS:
            node.ops[0] = _SWAPS[type(node.ops[0])]()
        case ast.Constant(value=bool() as value) as node:
            node.value = not value
        case ast.Constant(value=int() as value) as node:
            node.value = value + 1
        case ast.Constant(value=str() as value) as node:
            node.value = value + "x"
        case ast.Return() as node:
            node.value = ast.Constant(None)
        case _:
            return
    yield changed
