"""The science behind ASAP Viewer: reading CT, anatomy, reports, grounding, retrieval, answers.

Glossary, used in every docstring below this package:

* B batch, N patches or tokens, D feature width, T text tokens, S sentences, C classes, L labels.
* X, Y, Z: array axes that grow towards the patient's Right, Anterior, Superior (RAS+). H, W: screen rows, columns.
* hu: Hounsfield units, int16. mm: patient millimetres in RAS+. mL: millilitres.
* An `affine` is (4, 4) float64 and maps voxel indices (centres at integers) to patient mm.
* Nothing here prints, reads the environment, sets a global seed or imports gradio.
"""
