"""Whose weights can be imported: for each publication how its files are known and what becomes of their names."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from core.errors import CheckpointError
from core.models import ecamp_names, fvlm, visd
from core.models.checkpoint import ENCODER_PARTS

Rename = Callable[[str], str | None]

VISION_CORE = ("blocks.", "norm.")
"""Beginnings of a ViT's weights that any other ViT of its width and depth can start from (recipes_common 9)."""
TEXT_CORE = ("embeddings.word", "embeddings.position", "embeddings.LayerNorm.", "encoder.")
"""The same of a BERT; token types have no place in fVLM's and ViSD-Boost's, which never add them."""

NO_TOKEN_TYPES = r"^text_encoder\.bert\.embeddings\.token_type_embeddings\.weight$"
"""fVLM's and ViSD-Boost's BERT adds none (fVLM spec 4.2)."""


def keep_name(name: str) -> str | None:
    """Our name of a weight whose publishers name it as we do."""
    return name


def rename_cxr_bert(name: str) -> str | None:
    """CXR-BERT's body without its prefix; its two heads, and a pooler, are used by nothing here."""
    inner = name.removeprefix("bert.")
    return inner if re.match(r"embeddings\.(?!position_ids)|encoder\.", inner) else None


def rename_flat_vit(name: str) -> str | None:
    """What a ViT of volumes takes of MAE's of flat pictures (recipes_common 9): blocks, norm, and the position table,
    which only fVLM's ViT can use. Patch embedding, CLS, mask token and decoder have no place."""
    return name if name.startswith((*VISION_CORE, "pos_embed")) else None


@dataclass(frozen=True)
class Source:
    """One publication."""

    name: str
    """As in `--source`."""
    published: str
    """Which files of whom, for people; "" = none are, these are runs of ours."""
    signature: str
    """Pattern of a "name:dimensions" among its weights that no earlier source has."""
    rename: Rename = keep_name
    """Our name of a weight, None for one that is not used."""
    recipes: tuple[str, ...] = ()
    """Recipes whose models hold the weights under our names."""
    needed: tuple[str, ...] | None = None
    """Beginnings of the names that a model of `recipes` must find; None = what its recipe says."""
    vision: str | None = None
    """What stands before our names of the ViT's weights; None = it has no ViT."""
    is_vision_xyz: bool = False
    """Whether the ViT's patches lie (x, y, z), so that another such ViT can take patch embedding and CLS too."""
    is_flat: bool = False
    """Whether the ViT is one of flat pictures with CLS."""
    text: str | None = None
    """What stands before our names of the BERT's weights; None = it has no BERT."""
    zero: str = r"$^"
    """Pattern of names whose weights are nothing in this publication, and are set to 0 in a model that has them."""
    engine: tuple[str, ...] = ()
    """Beginnings of the names that an engine needs; () = it makes no engine by itself."""
    computed: str = r"(^|\.)(decoder_)?pos_embed$|\.counter$"
    """Pattern of names that a file may leave out, because what they hold is computed."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Weight -> the one that it is in our models, whatever a file holds for it."""
    read_first: str = r"$^"
    """Pattern of a name in the file that is read before the others, which overrule it."""
    threshold: float = 1.0
    """Least share of the needed weights that must be there and fit."""


_LISTED = (
    Source(
        "fvlm",
        "fVLM's checkpoint of CT-RATE, a .pth (repository alibaba-damo-academy/fvlm)",
        r"^visual_encoder\.patch_embedding\.",
        fvlm.rename_published,
        recipes=("fvlm",),
        needed=("",),
        vision="visual_encoder.",
        text="text_encoder.bert.",
        zero=NO_TOKEN_TYPES,
        engine=("",),
        computed=r"$^",
    ),
    Source(
        "visd",
        "ViSD-Boost's checkpoint_vqvae.pth and checkpoint.pth (repository alibaba-damo-academy/ViSD-Boost)",
        r"^(visual_encoder\.res_model\.|vq_layer\.)",
        visd.rename_published,
        recipes=("visd",),
        needed=("",),
        vision="visual_encoder.vit.",
        text="text_encoder.bert.",
        zero=NO_TOKEN_TYPES,
        engine=("",),
        computed=r"\.counter$",
        read_first=r"^encoder\.transformer\.",
    ),
    Source(
        "ecamp",
        "ECAMP's pre-trained checkpoint of chest X-rays, a .pth (repository ToniChopp/ECAMP)",
        r"^bert_encoder\.model\.bert\.",
        ecamp_names.volume_name,
        recipes=("ecamp", "asap"),
        needed=(*VISION_CORE, "bert_mlp.", "bert_decoder.bert.fusion_layer.", "bert_decoder.bert.encoder."),
        vision="",
        is_vision_xyz=True,
        text="bert_encoder.bert.",
    ),
    Source(
        "asap",
        "ASAP.pth, the encoder alone or the whole model (repository ToniChopp/ASAP)",
        r"^patch_embed\.proj\.weight:5$",
        recipes=("asap",),
        vision="",
        is_vision_xyz=True,
        text="bert_encoder.bert.",
        engine=(*ENCODER_PARTS, "finding_align_img_mlp.", "align_text_mlp.", "bert_encoder.bert."),
        tied={"bert_encoder.cls.predictions.decoder.weight": "bert_encoder.bert.embeddings.word_embeddings.weight"},
    ),
    Source(
        "mae-vit-b",
        "mae_pretrain_vit_base.pth, MAE's ViT-B of ImageNet (repository facebookresearch/mae)",
        r"^patch_embed\.proj\.weight:4$",
        rename_flat_vit,
        vision="",
        is_flat=True,
    ),
    Source(
        "cxr-bert",
        "pytorch_model.bin or model.safetensors of Microsoft's BiomedVLP-CXR-BERT-specialized",
        r"^(bert\.)?embeddings\.word_embeddings\.weight:2$",
        rename_cxr_bert,
        text="",
    ),
    Source(
        "asg",
        "",
        r"^img_encoder_q\.model\.",
        recipes=("asg",),
        vision="img_encoder_q.model.",
        is_vision_xyz=True,
        text="text_encoder_q.model.",
    ),
)

SOURCES: dict[str, Source] = {source.name: source for source in _LISTED}
"""In the order in which a file's names are held against them."""


def find_source(name: str) -> Source:
    """A publication by name; CheckpointError lists them."""
    known = [source.name for source in _LISTED if source.published]
    if name not in known:
        raise CheckpointError(f"There is no source {name!r}; expected one of {', '.join(known)}.")
    return SOURCES[name]


def recognise(tensors: Mapping[str, Tensor], file: str) -> Source:
    """The source of a file by its names; CheckpointError for weights of none."""
    described = [f"{name}:{value.ndim}" for name, value in tensors.items()]
    for source in _LISTED:
        if any(re.search(source.signature, one) for one in described):
            return source
    raise CheckpointError(
        f"{file} holds {len(described)} weights, such as {', '.join(list(tensors)[:3])}, of no model that is known "
        f"here; expected those of {', '.join(SOURCES)}, or a file that this program wrote."
    )
