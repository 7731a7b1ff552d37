"""Questions as data, SQL as text: the filter language, and what lists, pages, exports and the console ask."""
