"""A customer's period as a document: for print, for a browser, for a spreadsheet."""
