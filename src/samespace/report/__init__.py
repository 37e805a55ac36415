"""A certificate for people: in the terminal, as a page, as figures, and several side by side."""

from samespace.report.compare import markdown_table, write_comparison
from samespace.report.figures import comparison_plot, plots, save_comparison_plot, save_plots
from samespace.report.page import render_report, write_report
from samespace.report.terminal import print_certificate, print_comparison

__all__ = [
    "comparison_plot",
    "markdown_table",
    "plots",
    "print_certificate",
    "print_comparison",
    "render_report",
    "save_comparison_plot",
    "save_plots",
    "write_comparison",
    "write_report",
]
