"""Every mask generator and masked operation, drawn on a photograph: `maskjax gallery --out=DIR`.

scene       the photograph, and what the calls may use of it
entry       one drawing: the text of a call, which is what is run, and how to show its result
shows       from results of calls to pictures: maps of small numbers over the photograph
tokens, pixels, attention    the tables of drawings
frequency   how often each position is hidden, over many keys
render      pictures as pixels
sheet       gallery.png
page        gallery.html
"""
