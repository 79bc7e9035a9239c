"""SNOMED CT names of the structures, as keywords of the DICOM dictionary (PS3.16) that pydicom carries."""

from core.structures import side_of

_KEYWORDS = {
    "spleen": "Spleen",
    "kidney": "Kidney",
    "gallbladder": "Gallbladder",
    "liver": "Liver",
    "stomach": "Stomach",
    "pancreas": "Pancreas",
    "adrenal_gland": "AdrenalGland",
    "lung": "Lung",
    "lung_upper_lobe": "UpperLobeOfLung",
    "lung_middle_lobe": "StructureOfMiddleLobeOfLung",
    "lung_lower_lobe": "LowerLobeOfLung",
    "esophagus": "Esophagus",
    "trachea": "Trachea",
    "thyroid_gland": "Thyroid",
    "small_bowel": "SmallIntestine",
    "duodenum": "Duodenum",
    "colon": "Colon",
    "urinary_bladder": "Bladder",
    "prostate": "Prostate",
    "sacrum": "Sacrum",
    "heart": "Heart",
    "aorta": "Aorta",
    "pulmonary_vein": "PulmonaryVein",
    "pulmonary_artery": "PulmonaryArtery",
    "brachiocephalic_trunk": "BrachiocephalicTrunk",
    "brachiocephalic_vein": "BrachiocephalicVein",
    "subclavian_artery": "SubclavianArtery",
    "common_carotid_artery": "CommonCarotidArtery",
    "superior_vena_cava": "SuperiorVenaCava",
    "inferior_vena_cava": "InferiorVenaCava",
    "iliac_artery": "CommonIliacArtery",
    "iliac_vena": "CommonIliacVein",
    "humerus": "Humerus",
    "scapula": "Scapula",
    "clavicula": "Clavicle",
    "femur": "Femur",
    "spinal_cord": "SpinalCord",
    "brain": "Brain",
    "skull": "Skull",
    "rib": "Rib",
    "ribs": "Rib",
    "sternum": "Sternum",
    "costal_cartilages": "CostalCartilage",
    "airway": "AirwayStructure",
    "spine": "Spine",
    "mediastinum": "Mediastinum",
    "subcutaneous_fat": "AdiposeTissue",
    "pleura": "Pleura",
    "pericardium": "Pericardium",
    "breast": "Breast",
}
UNNAMED = "AnatomicalStructure"


def snomed_keyword(name: str) -> str:
    """Keyword in pydicom's SNOMED table for a structure, without its side; `UNNAMED` where none fits exactly."""
    if name == "vertebrae_S1":  # fused; the table has no name for the first sacral vertebra alone
        return UNNAMED
    if name.startswith("vertebrae_"):
        level = name.removeprefix("vertebrae_")
        return f"{level}Vertebra"
    side = side_of(name)
    words = [word for word in name.split("_") if word != side and not word.isdigit()]
    return _KEYWORDS.get("_".join(words), UNNAMED)
