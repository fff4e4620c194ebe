"""What a benchmark found -> report.html: one file, without script or network.

facts      what a report is made of
plots      its pictures, in a light and a dark form
sections   pictures with the numbers behind them in a table
page       all of it as HTML
"""
