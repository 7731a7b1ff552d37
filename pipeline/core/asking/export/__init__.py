"""Inferences as files of other programs: labelling tools, training, spreadsheets. Row by row, in bounded memory."""
