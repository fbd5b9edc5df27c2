"""The compiled core: superpixels, distances and soft labels on plain arrays.

`sfumato.labels` is the way to call it; it checks what comes in and explains what comes out.
"""
