"""What is installed here, what is missing and what that costs."""

from r1mega.cli.doctor.finding import Finding, Level, print_findings

__all__ = ["Finding", "Level", "print_findings"]
