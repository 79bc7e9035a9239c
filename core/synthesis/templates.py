"""Sentence patterns of reports by style, all written for this project. Plain tables.

Slots: {thing} noun with its adjectives, {a_thing} with its article; {is}, {was}, {has} agree with it; {many} what is
denied, {are} agrees with that; {place} where, with a blank in front ("" when not said); {at} the same as an opening
with its comma; {label} as a heading with its colon; {by} in front of the noun; {measuring} a size after the noun,
{tail} a size at the end, {sized} a size in front, {heading} the organ system with a colon. A capital first letter of a
slot's name asks for a capital.
"""

from typing import Literal

Style = Literal["prose", "brief", "formal", "structured", "passive"]
STYLES: tuple[Style, ...] = ("prose", "brief", "formal", "structured", "passive")

PRESENT: dict[Style, tuple[str, ...]] = {
    "prose": (
        "There {is} {a_thing}{place}{measuring}.",
        "{A_thing} {is} seen{place}{measuring}.",
        "We see {a_thing}{place}{measuring}.",
        "{At}there {is} {a_thing}{measuring}.",
        "{A_thing}{measuring} {is} visible{place}.",
        "The scan shows {a_thing}{place}{measuring}.",
        "There {is} {a_by}{measuring}.",
        "{A_by} {is} visible{tail}.",
        "The patient has {a_thing}{place}{measuring}.",
        "Note is made of {a_thing}{place}{measuring}.",
        "The images reveal {a_by}{measuring}.",
        "{At}one can see {a_thing}{measuring}.",
        "{A_thing} can be seen{place}{tail}.",
        "There {is} again {a_thing}{place}{measuring}.",
        "{A_thing} {is} apparent{place}{measuring}.",
    ),
    "brief": (
        "{Thing}{place}{tail}.",
        "{Sized}{by}{tail}.",
        "{Label}{thing}{tail}.",
        "{Thing} present{place}{tail}.",
        "{By}{tail}.",
        "{By} ({size}).",
        "{Thing}{place} again seen{tail}.",
        "{Sized}{thing}{place}.",
        "Shows {thing}{place}{tail}.",
        "{By} noted{tail}.",
        "Positive for {thing}{place}.",
    ),
    "formal": (
        "{A_thing} {is} identified{place}{measuring}.",
        "{A_thing} {is} noted{place}{measuring}.",
        "{At}{a_thing} {is} demonstrated{measuring}.",
        "Findings include {a_thing}{place}{measuring}.",
        "Evidence of {thing}{place}{tail}.",
        "{A_thing} {is} present{place}{measuring}.",
        "CT demonstrates {a_thing}{place}{measuring}.",
        "Computed tomography reveals {a_by}{measuring}.",
        "There {has} developed {a_thing}{place}{measuring}.",
        "{A_thing}{place} {is} appreciated{tail}.",
        "Imaging features of {thing}{place}{tail}.",
        "The examination discloses {a_thing}{place}{measuring}.",
    ),
    "structured": (
        "{Heading}{A_thing} {is} present{place}{measuring}.",
        "{Heading}{thing}{place}{tail}.",
        "{Heading}{sized}{by}{tail}.",
        "{Heading}There {is} {a_thing}{place}{measuring}.",
        "{Heading}{by}{tail}.",
        "{Label}{a_thing}{measuring}.",
    ),
    "passive": (
        "{A_thing} {was} observed{place}{measuring}.",
        "{A_thing}{measuring} {was} detected{place}.",
        "{At}{a_thing}{measuring} {is} observed.",
        "{A_thing} {was} found{place}{measuring}.",
        "{At}{a_thing} {was} noted{tail}.",
        "{A_by} {was} recorded{tail}.",
        "{A_thing}{place} {has} been demonstrated{tail}.",
        "An appearance of {thing} is observed{place}{tail}.",
        "{A_thing} {is} shown{place}{tail}.",
    ),
}

ABSENT: dict[Style, tuple[str, ...]] = {
    "prose": (
        "There is no {thing}{place}.",
        "No {many}{place}.",
        "We see no {many}{place}.",
        "There are no signs of {thing}{place}.",
        "The scan shows no {many}{place}.",
        "There is no {by}.",
        "I do not see {many}{place}.",
        "{At}there is no {thing}.",
        "The scan does not show {many}{place}.",
        "There is nothing to suggest {thing}{place}.",
        "There has never been {a_thing}{place}.",
    ),
    "brief": (
        "No {many}{place}.",
        "No {thing}.",
        "Negative for {thing}{place}.",
        "{Thing}{place}: none.",
        "No {by}.",
        "{Many}: absent.",
        "Without {many}{place}.",
        "{Label}no {many}.",
        "Free of {many}.",
        "{Many} not seen{place}.",
        "No sign of {thing}{place}.",
        "No CT sign of {thing}{place}.",
    ),
    "formal": (
        "No {many} {are} identified{place}.",
        "There is no evidence of {thing}{place}.",
        "{At}no {many} can be demonstrated.",
        "No convincing {thing}{place}.",
        "{Thing} is not present{place}.",
        "{Many} {are} absent{place}.",
        "Absence of {many}{place}.",
        "The examination is negative for {thing}{place}.",
        "No evidence of {thing}{place}.",
        "{Many} cannot be identified{place}.",
        "Previously described {thing}{place} has resolved.",
        "The {thing}{place} is no longer seen.",
        "Complete resolution of the {thing}{place}.",
        "The previous {thing}{place} has disappeared.",
        "The study excludes {thing}{place}.",
    ),
    "structured": (
        "{Heading}No {many}{place}.",
        "{Heading}No {thing}.",
        "{Heading}Negative for {thing}{place}.",
        "{Heading}Without {many}.",
        "{Heading}There is no {thing}{place}.",
        "{Heading}{many} not seen.",
    ),
    "passive": (
        "{Many} {were} not observed{place}.",
        "{Many} {were} not detected{place}.",
        "No {many} {were} detected{place}.",
        "No {thing} was observed{place}.",
        "{At}no {many} {were} found.",
        "{Many} {were} not seen{place}.",
        "No significant {thing} was detected{place}.",
        "{Many} {have} not been found{place}.",
        "No {by} was demonstrated.",
    ),
}

UNCERTAIN: dict[Style, tuple[str, ...]] = {
    "prose": (
        "There may be {a_thing}{place}{measuring}.",
        "Possible {thing}{place}{tail}.",
        "{A_thing}{place} cannot be excluded.",
        "There is a possible {by}{tail}.",
        "{At}there might be {a_thing}{measuring}.",
        "There could be {a_thing}{place}{measuring}.",
        "There is probably {a_thing}{place}{measuring}.",
        "I suspect {a_thing}{place}{measuring}.",
    ),
    "brief": (
        "Possible {thing}{place}{tail}.",
        "Suspected {thing}{place}{tail}.",
        "Query {thing}{place}.",
        "Questionable {thing}{place}{tail}.",
        "Suspicious for {thing}{place}{tail}.",
        "Possible {by}{tail}.",
        "{Label}possible {thing}{tail}.",
    ),
    "formal": (
        "Findings{place} are suspicious for {thing}.",
        "{A_thing} {is} suspected{place}{measuring}.",
        "Appearances might represent {thing}{place}.",
        "{A_thing}{place} {is} questionable.",
        "{A_thing}{place} cannot be ruled out.",
        "Equivocal {thing}{place}{tail}.",
        "Appearances raise the possibility of {thing}{place}.",
        "The findings{place} are suggestive of {thing}.",
        "{A_thing} {is} considered possible{place}{tail}.",
    ),
    "structured": (
        "{Heading}Possible {thing}{place}{tail}.",
        "{Heading}Suspected {by}{tail}.",
        "{Heading}{a_thing}{place} cannot be excluded.",
        "{Heading}Questionable {thing}{place}.",
    ),
    "passive": (
        "{A_thing} {was} suspected{place}{measuring}.",
        "{A_thing} could not be excluded{place}.",
        "An appearance suspicious for {thing} was observed{place}{tail}.",
        "A change that may represent {thing} was noted{place}{tail}.",
    ),
}

MEASURING = (
    ", measuring {}",
    " measuring {}",
    " of {}",
    ", {} in diameter",
    " ({})",
    ", about {} in size",
    " measuring up to {}",
    " with a diameter of {}",
    ", approximately {}",
    ", which measures {}",
    " that measures {}",
)
"""A size behind its noun."""
TAIL = (", {}", ", {}", ", measuring {}", " ({})", ", up to {}", ", {} in size", ", maximum diameter {}")
"""A size at the end of a sentence."""
FLUID_MEASURING = (
    ", measuring {} in thickness",
    ", {} thick",
    " of {} in thickness",
    " up to {} thick",
    ", measuring {} at its deepest point",
    " with a depth of {}",
)
"""The same for fluid and air, whose thickness is measured."""

TOGETHER_ABSENT = (
    "No {first} or {second}{place}.",
    "There is no {first} or {second}{place}.",
    "No evidence of {first} or {second}{place}.",
    "Neither {first} nor {second} is seen{place}.",
    "Negative for {first} and {second}{place}.",
    "{First} and {second} were not observed{place}.",
    "{First} and {second} are absent{place}.",
    "There are no signs of {first} or of {second}{place}.",
    "No {first}, no {second}{place}.",
    "Without {first} or {second}{place}.",
)
"""Two denials in one sentence; {place} is where both are denied."""
THREE_ABSENT = (
    "No {first}, {second} or {third}.",
    "There is no {first}, {second} or {third}.",
    "No evidence of {first}, {second} or {third}.",
    "Negative for {first}, {second} and {third}.",
    "{First}, {second} and {third} were not detected.",
    "{First}, {second} and {third}: none.",
)
"""Three denials in one sentence."""
TOGETHER_PRESENT = (
    "There is {first}{place}{measuring}, and {second}{place2}{measuring2}.",
    "{First} is seen{place}{measuring}, together with {second}{place2}{measuring2}.",
    "{First}{place}{measuring} and {second}{place2}{measuring2}.",
    "{First}{place}{measuring}; {second}{place2}{measuring2}.",
    "{First} was noted{place}{measuring}, and {second} was noted{place2}{measuring2}.",
    "The scan shows {first}{place}{measuring} as well as {second}{place2}{measuring2}.",
    "There is {first}{place}{measuring}, accompanied by {second}{place2}{measuring2}.",
    "In addition to {first}{place} there is {second}{place2}{measuring2}.",
)
"""Two findings in one sentence."""
PRESENT_AND_ABSENT = (
    "There is {first}{place}{measuring}, but no {second}.",
    "{First}{place}{measuring} without {second}.",
    "{First} is seen{place}{measuring}; no {second}.",
    "{First}{place}{measuring}, no {second}.",
    "There is {first}{place}{measuring} and no evidence of {second}.",
    "{First} was observed{place}{measuring}, but no {second} could be detected.",
    "While there is {first}{place}{measuring}, there is no evidence of {second}.",
)
"""A finding and a denial in one sentence."""
