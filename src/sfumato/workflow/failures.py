"""Cases that could not be done while others could."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A case that could not be done, and why."""

    case_id: str
    reason: str

    @staticmethod
    def of(case_id: str, error: Exception) -> "Failure":
        """Note what went wrong with a case, without naming the case twice.

        Examples:
            >>> from sfumato.errors import CaseError
            >>> Failure.of("p01", CaseError("p01", "it has no label")).reason
            'it has no label'
        """
        if isinstance(error, MemoryError):
            return Failure(case_id=case_id, reason="there is not enough memory for it")
        return Failure(case_id=case_id, reason=str(error).removeprefix(f"case {case_id!r}: "))

    @staticmethod
    def of_defect(case_id: str, error: Exception) -> "Failure":
        """Note that a case met a defect, which must not stop all others."""
        reason = f"{type(error).__name__}: {error} (this is a defect in sfumato)"
        return Failure(case_id=case_id, reason=reason)
