"""Sentences of general English with random words in them, to keep what a public encoder knows of words. Plain data."""

from collections.abc import Sequence

import numpy as np

FRAMES = (
    "The {a} of the {b} was {c}.",
    "{a} and {b} were compared with {c}.",
    "A {a} {b} lies beside the {c}.",
    "We found that the {a} was larger than the {b}.",
    "There is some {a} in the {b}.",
    "{a} {b}, {c} {d}.",
    "Because of {a}, the {b} could not be seen.",
    "{a} shows {b} {c} near the {d}.",
    "This is a {a} with {b} and {c}.",
    "The patient complained of {a} after {b}.",
    "Treatment with {a} led to {b}.",
    "History of {a}, {b} and {c}.",
    "{a} is more common than {b} in {c}.",
    "{a} {b}",
    "{a}",
    "{a} in the {b} of the {c}",
    "Please compare with {a} from {b}.",
    "The {a} has become {b} since {c}.",
    "It may be due to {a} or {b}.",
    "Several {a} around a {b}.",
    "Loss of {a} with {b} of the {c}.",
    "{a} extending from the {b} to the {c}.",
    "Enhancement of the {a} after {b}.",
    "{a}, probably {b}.",
    "Surgery of the {a} because of {b}.",
    "The {a} is {b} and the {c} is {d}.",
)
"""Patterns; every slot takes a word of its own."""

MEDICAL_WORDS = """
chest thorax thoracic scan study examination comparison technique contrast intravenous axial coronal sagittal
slice series patient supine inspiration motion artifact limited quality prior previous current interval change
unchanged stable increased decreased larger smaller new resolved progression regression follow recommended
clinical biopsy suggests suggestive consistent compatible likely probably unlikely differential infection
infectious inflammatory neoplasm malignancy malignant benign metastasis metastatic tumour tumor cancer
carcinoma tuberculosis pneumonia edema oedema congestion hemorrhage infarct embolism embolus thrombus
thrombosis aneurysm dilatation dissection stenosis plaque valve ventricle atrium septum pericardium pleura
fissure lingula segment segmental subsegmental apical apex basal base basilar hilum hilar peripheral central
subpleural perihilar paratracheal subcarinal axillary supraclavicular prevascular diffuse focal patchy
multifocal scattered several multiple few single numerous bilateral unilateral anterior posterior medial
lateral superior inferior upper middle lower left right side both dependent vertebra vertebral compression
fracture sclerotic lytic lesion degenerative osteophyte kyphosis scoliosis sternum clavicle scapula humerus
rib muscle fat skin breast thyroid goitre esophagus oesophagus stomach spleen liver hepatic steatosis
gallbladder stone kidney renal cyst adrenal pancreas bowel lymph node lymphadenopathy tube catheter stent clip
wire pacemaker port line device prosthesis surgical postoperative sequela scar fibrosis fibrotic honeycombing
reticular reticulation crazy paving tree bud halo cavity cavitation necrotic calcified noncalcified
bronchogram trapping bulla bleb cystic bronchus bronchi bronchial bronchiole trachea tracheal mucus plug
secretion thickened thickening wall enlarged enlargement normal unremarkable clear intact patent preserved
size diameter thickness tortuous ectatic atheroma calcific granuloma sarcoidosis silicosis asbestosis lymphoma
thymoma hamartoma carcinoid abscess empyema hematoma seroma lobectomy pneumonectomy sternotomy bypass graft
drain port reservoir screw plate dyspnea cough fever hemoptysis smoker trauma radiotherapy chemotherapy
transplant immunosuppressed staging ill-defined well-defined lobulated irregular smooth round oval linear
nodular hypodense hyperdense isodense attenuation density enhancement opacity opacified shadow lucency
infiltrate infiltration involvement invasion
""".split()
"""Words of reports, drawn more often than others."""
TELLING_WORDS = frozenset(
    """left right side sided both either bilateral unilateral upper middle lower superior inferior apex apical base
    basal basilar lingula lung lungs pleura no not none nor neither never without absent present lack free gone resolved
    new possible probable likely unlikely perhaps probably may mm cm millimetre centimetre""".split()
)
"""Words that say where or whether: no sentence takes them at random."""
PLAIN_WORDS = tuple(word for word in MEDICAL_WORDS if word not in TELLING_WORDS)
"""Words of reports that can stand anywhere."""
MEDICAL_CHANCE = 0.5


def write_frame(words: Sequence[str], rng: np.random.Generator) -> str:
    """One pattern filled with random words."""
    frame = FRAMES[rng.integers(len(FRAMES))]
    filled = frame.format(**{slot: draw_word(words, rng) for slot in "abcd"})
    return filled[:1].upper() + filled[1:]


def draw_word(words: Sequence[str], rng: np.random.Generator) -> str:
    """A word of reports or any word."""
    chosen = PLAIN_WORDS if rng.random() < MEDICAL_CHANCE else words
    return chosen[int(rng.integers(len(chosen)))]
