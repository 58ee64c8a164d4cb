"""Reports: totals in, text out. `summarize` takes the snapshot, `render` writes it."""

from costtrace.reports.csv import csv_text
from costtrace.reports.html import html_fragment
from costtrace.reports.json import report_document
from costtrace.reports.markdown import markdown_table
from costtrace.reports.render import FORMATS, render
from costtrace.reports.stacks import FunctionCost, collapsed, function_costs
from costtrace.reports.summary import BudgetRow, Summary, summarize
from costtrace.reports.table import Column, table
from costtrace.reports.text import render_text

__all__ = [
    "FORMATS",
    "BudgetRow",
    "Column",
    "FunctionCost",
    "Summary",
    "collapsed",
    "csv_text",
    "function_costs",
    "html_fragment",
    "markdown_table",
    "render",
    "render_text",
    "report_document",
    "summarize",
    "table",
]
