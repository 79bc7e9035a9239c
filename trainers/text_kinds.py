"""What a text encoder should know beyond the data engine's findings: names of findings, organs, normal statements.

Plain tables, written for this project.
"""

from core.structures import LOBES
from core.synthesis.claims import KINDS, Kind

_DEGREE = ("mild", "moderate", "severe")


def _organ(
    finding: str, nouns: str, many: str, organ: str, phrases: str = "", sizes: tuple[float, float] | None = None
) -> Kind:
    """A finding of one organ; words are separated by "|"."""
    return Kind(
        finding,
        tuple(nouns.split("|")),
        tuple(many.split("|")),
        "organ",
        (organ,),
        sizes,
        phrases=tuple(phrases.split("|")),
    )


def _paired(
    finding: str, nouns: str, many: str, organ: str, phrases: str, sizes: tuple[float, float] | None = None
) -> Kind:
    """A finding of one of a pair of organs; `organ` and `phrases` hold {side}."""
    organs = (organ.format(side="left"), organ.format(side="right"))
    return Kind(finding, tuple(nouns.split("|")), tuple(many.split("|")), "paired", organs, sizes, (), True,
                tuple(phrases.split("|")))  # fmt: skip


def _lobar(finding: str, nouns: str, many: str, grades: tuple[str, ...] = ()) -> Kind:
    return Kind(finding, tuple(nouns.split("|")), tuple(many.split("|")), "lobe", LOBES, None, grades, False)


def _pleural(finding: str, nouns: str, many: str, grades: tuple[str, ...] = ()) -> Kind:
    organs = ("pleura_left", "pleura_right")
    return Kind(finding, tuple(nouns.split("|")), tuple(many.split("|")), "pleura", organs, None, grades, False)


MORE_KINDS: dict[str, Kind] = {
    "pneumonia": _lobar(
        "pneumonia",
        "pneumonia|pneumonic infiltrate|bronchopneumonia|infectious infiltrate|inflammatory infiltrate",
        "pneumonia|infiltrates|active infiltration|infectious infiltrate|pneumonic infiltration",
    ),
    "tree-in-bud": _lobar(
        "tree-in-bud",
        "tree-in-bud opacity|tree-in-bud pattern|tree-in-bud nodularity|budding tree appearance",
        "tree-in-bud opacities|tree-in-bud pattern|centrilobular nodules",
    ),
    "honeycombing": _lobar(
        "honeycombing",
        "honeycombing|honeycomb change|honeycomb cysts|honeycomb pattern",
        "honeycombing|honeycomb change",
    ),
    "reticulation": _lobar(
        "Pulmonary fibrotic sequela",
        "reticulation|reticular opacity|subpleural reticulation|interstitial fibrosis|pulmonary fibrosis",
        "reticulation|pulmonary fibrosis|interstitial lung disease",
        _DEGREE,
    ),
    "lung cyst": _lobar(
        "lung cyst", "lung cyst|thin-walled air cyst|air cyst|pulmonary cyst|cystic airspace", "lung cysts|air cysts"
    ),
    "bulla": _lobar(
        "Emphysema", "bulla|bullous change|subpleural bleb|air-filled bulla|bullous emphysema", "bullae|blebs|bulla"
    ),
    "air trapping": _lobar("air trapping", "air trapping|expiratory air trapping", "air trapping", _DEGREE),
    "mucus plug": _lobar(
        "secretion in the airway",
        "mucus plugging|mucous plug|bronchial secretions|mucoid impaction|retained secretions",
        "mucus plugging|secretions|mucoid impaction",
    ),
    "edema": _lobar(
        "pulmonary edema",
        "pulmonary edema|interstitial edema|alveolar edema|pulmonary vascular congestion|fluid overload",
        "pulmonary edema|congestion|interstitial edema",
        _DEGREE,
    ),
    "miliary nodules": _lobar(
        "Lung nodule",
        "multiple small nodules|numerous tiny nodules|several nodules|a few millimetric nodules|scattered nodules",
        "millimetric nodules|small nodules|tiny nodules",
    ),
    "pleural thickening": _pleural(
        "pleural thickening",
        "pleural thickening|thickening of the pleura|thickened pleura|smooth pleural thickening",
        "pleural thickening|thickening of the pleura",
        _DEGREE,
    ),
    "pleural plaque": _pleural(
        "pleural calcification",
        "pleural plaque|calcified pleural plaque|pleural calcification|calcification of the pleura",
        "pleural plaques|pleural calcification|calcified plaques of the pleura",
    ),
    "empyema": _pleural("empyema", "empyema|loculated empyema|infected pleural collection", "empyema"),
    "pulmonary embolism": _organ(
        "pulmonary embolism",
        "pulmonary embolism|pulmonary embolus|filling defect|thrombus|embolus",
        "pulmonary embolism|filling defects|emboli|pulmonary emboli|thrombus",
        "pulmonary_artery",
        "|in the pulmonary arteries|in the main pulmonary artery|in a segmental branch",
    ),
    "pulmonary artery enlargement": _organ(
        "pulmonary artery enlargement",
        "enlarged pulmonary artery|dilated main pulmonary artery|enlargement of the pulmonary trunk|dilatation of the "
        "pulmonary artery",
        "enlargement of the pulmonary artery|pulmonary artery dilatation",
        "pulmonary_artery",
        "",
        (30, 45),
    ),
    "aneurysm": _organ(
        "aneurysm",
        "aortic aneurysm|aneurysmal dilatation of the aorta|aneurysm of the ascending aorta|dilated aorta",
        "aortic aneurysm|aneurysm|aneurysmal dilatation of the aorta|aortic dilatation",
        "aorta",
        "",
        (40, 70),
    ),
    "dissection": _organ(
        "aortic dissection",
        "aortic dissection|dissection flap|intimal flap in the aorta|dissection of the aorta",
        "aortic dissection|dissection|intimal flap",
        "aorta",
    ),
    "valve calcification": _organ(
        "valve calcification",
        "aortic valve calcification|mitral annular calcification|valvular calcification|calcified heart valve",
        "valve calcification|valvular calcification",
        "heart",
    ),
    "pericardial thickening": _organ(
        "pericardial thickening",
        "pericardial thickening|thickened pericardium|thickening of the pericardium",
        "pericardial thickening|thickening of the pericardium",
        "pericardium",
    ),
    "catheter": _organ(
        "Medical material",
        "central venous catheter|venous port|port catheter|indwelling catheter|PICC line|tunneled catheter",
        "catheters|central lines|indwelling lines|central venous catheter",
        "superior_vena_cava",
        "|ending in the superior vena cava|with its tip at the cavoatrial junction",
    ),
    "tube": _organ(
        "Medical material",
        "endotracheal tube|tracheostomy tube|tracheal tube|tracheostomy cannula",
        "endotracheal tube|tracheostomy",
        "trachea",
        "|above the carina|in the trachea",
    ),
    "stomach tube": _organ(
        "Medical material",
        "nasogastric tube|feeding tube|gastric tube|enteric tube",
        "nasogastric tube|feeding tube",
        "esophagus",
        "|in the stomach|in the esophagus",
    ),
    "stent": _organ(
        "Medical material",
        "coronary stent|stent in a coronary artery|stented coronary vessel",
        "coronary stents|stents",
        "heart",
    ),
    "sternotomy": _organ(
        "Medical material",
        "sternal wires|median sternotomy|sternotomy wires|surgical sutures of the sternum",
        "sternal wires|sternotomy wires",
        "sternum",
    ),
    "clips": _organ(
        "Medical material",
        "surgical clips|suture material|metallic clips|operation material",
        "surgical clips|suture material",
        "body",
        "|in the upper abdomen|in the gallbladder bed",
    ),
    "chest tube": _pleural(
        "Medical material", "chest tube|pleural drain|thoracic drain|drainage catheter", "chest tube|pleural drain"
    ),
    "tracheal lesion": _organ(
        "airway obstruction",
        "endobronchial lesion|tracheal lesion|obstructing lesion|lesion in the lumen",
        "endobronchial lesion|obstructive pathology|occlusive lesion|endoluminal mass",
        "trachea",
        "|in the trachea|in the main bronchi",
    ),
    "mediastinal mass": _organ(
        "mediastinal mass",
        "mediastinal mass|anterior mediastinal mass|thymic mass|mass of the mediastinum",
        "mediastinal mass|mass in the mediastinum",
        "mediastinum",
        "|in the anterior mediastinum|in the prevascular space",
        (20, 80),
    ),
    "pneumomediastinum": _organ(
        "pneumomediastinum",
        "pneumomediastinum|mediastinal air|free air in the mediastinum",
        "pneumomediastinum|mediastinal air",
        "mediastinum",
    ),
    "esophageal thickening": _organ(
        "esophageal wall thickening",
        "esophageal wall thickening|thickening of the esophageal wall|thickened esophagus|esophageal tumor",
        "esophageal wall thickening|thickening of the esophagus",
        "esophagus",
        "|in its distal part|in its middle third",
    ),
    "hilar node": _paired(
        "Lymphadenopathy",
        "enlarged hilar lymph node|hilar lymphadenopathy|hilar adenopathy|prominent hilar node",
        "hilar lymphadenopathy|enlarged hilar nodes|hilar lymph nodes",
        "lung_{side}",
        "at the {side} hilum|in the {side} hilar region|on the {side}",
        (10, 30),
    ),
    "axillary node": _paired(
        "Lymphadenopathy",
        "enlarged axillary lymph node|axillary lymphadenopathy|axillary adenopathy|pathologic axillary node",
        "axillary lymphadenopathy|enlarged axillary nodes",
        "body",
        "in the {side} axilla|on the {side}|in the {side} axillary region",
        (10, 30),
    ),
    "small nodes": _organ(
        "Lymphadenopathy",
        "subcentimeter lymph nodes|small lymph nodes|lymph nodes with a short axis below 1 cm|nonenlarged lymph nodes",
        "lymph nodes|pathological lymph nodes|lymph nodes of pathological size",
        "mediastinum",
        "in the mediastinum|in the paratracheal area|at subcarinal level|in the aortopulmonary window",
    ),
    "rib fracture": _paired(
        "fracture",
        "rib fracture|fractured rib|displaced rib fracture|fracture of a rib|healing rib fracture",
        "rib fractures|fracture|displaced fractures",
        "ribs",
        "on the {side}|of the {side} chest wall|in the {side} hemithorax",
    ),
    "clavicle fracture": _paired(
        "fracture",
        "clavicular fracture|fracture of the clavicle",
        "clavicular fracture",
        "clavicula_{side}",
        "on the {side}|in the {side} clavicle",
    ),
    "vertebral fracture": _organ(
        "vertebral height loss",
        "compression fracture|vertebral compression fracture|height loss of a vertebral body|collapsed vertebra",
        "compression fracture|vertebral fracture|loss of vertebral height|height loss",
        "spine",
        "|in the thoracic spine|of a thoracic vertebra",
    ),
    "degenerative spine": _organ(
        "degenerative change",
        "degenerative change|osteophytes|spondylosis|degenerative disc disease|osteophytic spurring|bony spurs",
        "degenerative changes|osteophytes|spondylosis",
        "spine",
        "in the spine|of the thoracic spine|in the vertebrae|in the bony structures",
    ),
    "scoliosis": _organ("scoliosis", "scoliosis|curvature of the spine|S-shaped scoliosis", "scoliosis", "spine"),
    "kyphosis": _organ("kyphosis", "kyphosis|increased thoracic kyphosis|hyperkyphosis", "kyphosis", "spine"),
    "osteopenia": _organ(
        "osteoporosis",
        "osteopenia|osteoporosis|reduced bone density|demineralization of bone",
        "osteoporosis|osteopenia",
        "bones",
    ),
    "bone metastasis": _organ(
        "lytic bone lesion",
        "lytic bone lesion|sclerotic bone lesion|bone metastasis|destructive bone lesion|osseous metastasis",
        "lytic lesions|bone metastases|destructive bone lesions|suspicious osseous lesions",
        "bones",
        "|in the spine|in the ribs|in the sternum",
    ),
    "thyroid nodule": _organ(
        "thyroid nodule",
        "thyroid nodule|nodule of the thyroid gland|hypodense thyroid nodule|thyroid lesion",
        "thyroid nodules|thyroid nodule",
        "thyroid_gland",
        "|in the thyroid|in the thyroid gland",
        (5, 30),
    ),
    "goiter": _organ(
        "goiter", "goiter|enlarged thyroid|multinodular goiter|thyroid enlargement", "goiter", "thyroid_gland"
    ),
    "steatosis": _organ(
        "hepatic steatosis",
        "hepatic steatosis|fatty liver|fatty infiltration of the liver|diffuse hepatic fat|reduced liver density",
        "hepatic steatosis|fatty liver|fatty infiltration of the liver",
        "liver",
    ),
    "cirrhosis": _organ("cirrhosis", "cirrhosis|cirrhotic liver|nodular liver contour", "cirrhosis", "liver"),
    "hepatomegaly": _organ(
        "hepatomegaly", "hepatomegaly|enlarged liver|enlargement of the liver", "hepatomegaly", "liver"
    ),
    "splenomegaly": _organ(
        "splenomegaly",
        "splenomegaly|enlarged spleen|enlargement of the spleen",
        "splenomegaly|enlargement of the spleen",
        "spleen",
    ),
    "gallstone": _organ(
        "gallstone",
        "gallstone|gallbladder stone|cholelithiasis|stone in the gallbladder",
        "gallstones|cholelithiasis|gallbladder stones",
        "gallbladder",
        "",
        (4, 20),
    ),
    "kidney stone": _paired(
        "kidney stone",
        "kidney stone|renal calculus|nephrolithiasis|renal stone",
        "kidney stones|renal calculi|nephrolithiasis",
        "kidney_{side}",
        "in the {side} kidney|on the {side}|in the lower pole of the {side} kidney",
        (3, 15),
    ),
    "renal cyst": _paired(
        "renal cyst",
        "renal cyst|cortical renal cyst|kidney cyst|exophytic renal cyst",
        "renal cysts|kidney cysts",
        "kidney_{side}",
        "in the {side} kidney|on the {side}|in the upper pole of the {side} kidney",
        (8, 60),
    ),
    "hydronephrosis": _paired(
        "hydronephrosis",
        "hydronephrosis|dilated renal pelvis|pelvicaliceal dilatation",
        "hydronephrosis",
        "kidney_{side}",
        "of the {side} kidney|on the {side}",
    ),
    "adrenal nodule": _paired(
        "adrenal nodule",
        "adrenal nodule|adrenal adenoma|adrenal lesion|nodular thickening of the adrenal gland|adrenal mass",
        "adrenal nodules|adrenal lesions|adrenal mass",
        "adrenal_gland_{side}",
        "on the {side}|in the {side} adrenal gland|of the {side} adrenal gland",
        (8, 40),
    ),
    "ascites": _organ(
        "ascites",
        "ascites|free abdominal fluid|perihepatic fluid|intraperitoneal fluid",
        "ascites|free fluid in the abdomen|intraabdominal fluid",
        "body",
    ),
    "breast mass": _paired(
        "breast nodule",
        "breast mass|breast nodule|breast lesion|mass of the breast",
        "breast mass|breast lesions",
        "breast",
        "in the {side} breast|on the {side}",
        (8, 40),
    ),
    "gynecomastia": _paired(
        "gynecomastia",
        "gynecomastia|enlarged glandular breast tissue",
        "gynecomastia",
        "breast",
        "on the {side}|in the {side} breast",
    ),
    "subcutaneous air": _paired(
        "subcutaneous emphysema",
        "subcutaneous emphysema|soft tissue air|air in the chest wall",
        "subcutaneous emphysema|soft tissue air",
        "subcutaneous_fat",
        "on the {side}|in the {side} chest wall",
    ),
    "metastasis": _lobar(
        "metastasis",
        "metastasis|metastatic nodules|metastatic deposits|secondary lesions",
        "metastases|metastatic disease|metastatic nodules",
    ),
    "varices": _organ(
        "varices", "esophageal varices|paraesophageal varices|dilated collateral veins", "varices", "esophagus"
    ),
    "heart failure": _organ(
        "Cardiomegaly",
        "dilated left ventricle|four-chamber enlargement|enlarged cardiac silhouette|widened cardiothoracic ratio",
        "chamber enlargement|cardiac dilatation",
        "heart",
    ),
    "elevated diaphragm": _paired(
        "elevated diaphragm",
        "elevated hemidiaphragm|raised diaphragm|diaphragmatic eventration",
        "elevation of the diaphragm",
        "body",
        "on the {side}",
    ),
}
"""Kind -> what is known of it; they occur in sentences only, never in a CT."""

TEXT_KINDS: dict[str, Kind] = {**KINDS, **MORE_KINDS}
"""Every kind a sentence of the encoder's training can be about."""

MORE_NORMALITY: dict[str, tuple[str, ...]] = {
    "thyroid_gland": ("The thyroid gland is unremarkable.", "Normal thyroid.", "Thyroid: homogeneous, normal in size."),
    "kidney": ("Both kidneys are normal.", "The kidneys are unremarkable.", "Kidneys: normal contours."),
    "gallbladder": ("The gallbladder is unremarkable.", "Normal gallbladder.", "Gallbladder: thin-walled and normal."),
    "pancreas": ("The pancreas is unremarkable.", "Normal pancreas.", "Pancreas: normal density and contours."),
    "pulmonary_artery": (
        "The pulmonary arteries are of normal calibre.",
        "The pulmonary trunk is not dilated.",
        "Normal width of the pulmonary artery.",
        "The main pulmonary artery is within normal limits.",
        "The pulmonary arteries are patent.",
    ),
    "vessels": (
        "The large mediastinal vessels are normal.",
        "Great vessels: normal calibre.",
        "The major vessels of the mediastinum are unremarkable.",
        "Vascular structures of the mediastinum have normal diameters.",
    ),
    "pleura": (
        "The pleural spaces are clear.",
        "Both pleural spaces are unremarkable.",
        "Pleura: normal.",
        "The pleura is thin and smooth on both sides.",
        "The costophrenic angles are free.",
    ),
    "pericardium": ("The pericardium is unremarkable.", "Normal pericardium.", "Pericardium: thin, no fluid."),
    "bones": (
        "The bony structures are unremarkable.",
        "No bone abnormality.",
        "Bones: normal.",
        "The imaged skeleton is intact.",
        "Osseous structures are within normal limits.",
    ),
    "chest wall": (
        "The chest wall is unremarkable.",
        "Soft tissues of the chest wall are normal.",
        "Chest wall: normal.",
    ),
    "abdomen": (
        "The imaged upper abdomen is unremarkable.",
        "Upper abdominal organs are normal as far as they are seen.",
        "No abnormality in the visible part of the abdomen.",
        "Upper abdomen: normal.",
    ),
    "hila": ("Both hila are normal.", "The hila are unremarkable.", "Hilar contours are normal."),
    "axilla": ("The axillae are clear.", "Both axillary regions are unremarkable."),
    "diaphragm": ("The diaphragm is intact.", "Both hemidiaphragms have a normal position."),
    "breast": ("The breasts are unremarkable.", "Normal breast tissue."),
    "stomach": ("The stomach is unremarkable.", "Normal stomach."),
    "coronary_arteries": ("The coronary arteries are free of calcium.", "Coronary arteries: unremarkable."),
    "study": (
        "The chest is normal.",
        "Unremarkable chest CT.",
        "Normal examination.",
        "No abnormality.",
        "The study is within normal limits.",
    ),
}
"""Structure or region -> sentences that call it normal, beside those of `core.synthesis.normality`."""
