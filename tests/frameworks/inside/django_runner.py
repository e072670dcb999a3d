"""Django's test runner, extended to write the outcome of every test."""

from __future__ import annotations

import unittest
from traceback import format_exception
from typing import Any

from django.test.runner import DiscoverRunner

import outcomes


class _Result(unittest.TextTestResult):
    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addSuccess(test)
        outcomes.write(test.id(), "passed")

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        outcomes.write(test.id(), "failed", self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        outcomes.write(test.id(), "failed", self.failures[-1][1])

    def addSubTest(  # noqa: N802
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any
    ) -> None:
        super().addSubTest(test, subtest, err)
        if err:
            outcomes.write(test.id(), "failed", "".join(format_exception(*err)))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        outcomes.write(test.id(), "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addExpectedFailure(test, err)
        outcomes.write(test.id(), "skipped", "the suite expects this failure")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        outcomes.write(test.id(), "failed", "an unexpected success")


class Runner(DiscoverRunner):
    def get_resultclass(self) -> type[unittest.TextTestResult]:
        return _Result
