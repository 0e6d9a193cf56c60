"""The sandbox for code that a model writes: processes that can compute, and little else.

`open_sandbox` opens it, `CallCheck` and `TestCheck` are what runs in it. docs/how-to/code.md says what protects, and
from what it does not.
"""

from quantexp.util.code_sandbox.checks import KINDS, CallCheck, Check, Outcome, TestCheck
from quantexp.util.code_sandbox.sandbox import Sandbox, open_sandbox

__all__ = ["KINDS", "CallCheck", "Check", "Outcome", "Sandbox", "TestCheck", "open_sandbox"]
