"""The reductions of the report tests."""

from tests.report.conftest import failed, failed_once, good, good_once, raw, raw_root

__all__ = ["failed", "failed_once", "good", "good_once", "raw", "raw_root"]
