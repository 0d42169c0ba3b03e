"""The sentences of generated complaints: what is said, by category and tone, and what is around it.

Places stand for facts of the order: `{item}` one of its dishes, `{Item}` the same where a sentence
begins, `{items}` one or two of them, `{wait}` the time from order to door, `{street}` where it was
brought. A sentence says nothing else that the order's data could contradict: no other dish, no
promised time, no time of day, no second order. Those of the tone `urgent` have words of the triage
policy's `urgent_words`; the others have none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

__all__ = ["COMPLAINT_CORES", "COMPLAINT_TONES", "Tone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tone:
    """How a customer writes.

    Args:
        share: of all complaints, 0 to 1.
        openings: what may come before the complaint, with a blank at its end; no places.
        endings: what may come after it, with a blank at its beginning; no places.
    """

    share: Decimal
    openings: tuple[str, ...]
    endings: tuple[str, ...]


COMPLAINT_TONES: Mapping[str, Tone] = MappingProxyType(
    {
        "polite": Tone(
            share=Decimal("0.24"),
            openings=("", "Hello. ", "I am sorry to bother you. ", "Thank you for your work. "),
            endings=(
                "",
                " Could you please look into it?",
                " I would be grateful for an answer.",
                " I hope you can put this right.",
            ),
        ),
        "brief": Tone(
            share=Decimal("0.20"),
            openings=("", "Hi. ", "Short note. ", "Not happy. "),
            endings=("", " Please fix.", " Thanks.", " What now?"),
        ),
        "upset": Tone(
            share=Decimal("0.20"),
            openings=("", "I am really angry. ", "This is not acceptable. ", "Seriously? "),
            endings=(
                "",
                " I want my money back.",
                " I will not order again.",
                " Do better!",
            ),
        ),
        "ironic": Tone(
            share=Decimal("0.12"),
            openings=("", "Well done. ", "What a treat. ", "Bravo. "),
            endings=(
                "",
                " Five stars for effort.",
                " My compliments to whoever planned this.",
                " I can hardly wait for the next surprise.",
            ),
        ),
        "chatty": Tone(
            share=Decimal("0.18"),
            openings=(
                "",
                "So, here is my little story. ",
                "I usually never write such things, but here we are. ",
                "My sister said I should tell you, so I do. ",
            ),
            endings=(
                "",
                " Anyway, that was that.",
                " My cat was the only one who laughed.",
                " I thought you would like to know.",
            ),
        ),
        "urgent": Tone(
            share=Decimal("0.06"),
            openings=("", "This is serious. ", "Please read this at once. ", "I am still upset. "),
            endings=(
                "",
                " Call me.",
                " I expect an answer from a person.",
                " This must not happen to anybody else.",
            ),
        ),
    }
)
"""The tones; their shares add up to one."""

_DELAY = {
    "polite": (
        "From order to door it took {wait}, and {item} was past its best by then.",
        "We sat at the table for {wait} before anybody rang the bell.",
        "It took {wait} to reach {street}, which is longer than I can plan for.",
        "Perhaps something went wrong on the way, because it took {wait}.",
    ),
    "brief": ("It took {wait}.", "Too slow.", "Way to {street} took {wait}.", "Waited {wait}."),
    "upset": (
        "I watched the map for {wait} and nobody told me what was going on!",
        "A meal from across town must not take {wait}.",
        "My break was over when {item} got here, because it took {wait}.",
        "I ordered {item} because I was in a hurry, and then it took {wait}.",
    ),
    "ironic": (
        "It took {wait}; I assume the driver came on foot.",
        "I could have grown the ingredients for {item} myself.",
        "The map showed a dot resting in the shade while I waited {wait}.",
        "Somebody must have taken the scenic route to {street}.",
    ),
    "chatty": (
        "I had everything ready, plates, glasses, a film, and then we waited {wait} for {item}.",
        "My neighbour at {street} bet that it would be quick. It took {wait}, and I won.",
        "I kept walking to the window like a dog. It took {wait}.",
        "The kids had given up and were playing again, since it took {wait} to get {items}.",
    ),
    "urgent": (
        "It took {wait}, and the driver threatened me when I asked why.",
        "It took {wait} and spoiled the whole party; my lawyer will hear about it.",
        "{Item} must have stood around for all that time: my father got sick from it.",
        "It took {wait}. Give me my money back, or my bank starts a chargeback.",
    ),
}

_MISSING = {
    "polite": (
        "I paid for {item}, but it was not in the bag.",
        "The bag was sealed, yet I could not find {items} in it.",
        "It seems that {item} was forgotten when the bag was packed.",
        "Part of what I ordered did not arrive at {street}.",
    ),
    "brief": (
        "{Item} missing.",
        "Something is missing.",
        "Bag came without {items}.",
        "{Item} not in the bag.",
    ),
    "upset": (
        "You charged me for {items} and did not pack it!",
        "My kid cried because {item} was left out.",
        "How can anybody close a bag and not notice that {item} is missing?",
        "We looked through the bag again and again, and {item} was not there.",
    ),
    "ironic": (
        "I was not aware that {item} is invisible.",
        "Paying for {items} and getting air is a new experience.",
        "{Item} must have jumped out of the bag on the way to {street}.",
        "The receipt mentions {item}; I ate the receipt instead.",
    ),
    "chatty": (
        "We unpacked everything like on a birthday, and then {item} was simply not there.",
        "I told everybody how good {item} is, and of course that was what you forgot.",
        "My flatmate swears that he did not touch it, so {item} never came to {street}.",
        "Two of us looked under every napkin for {items} and found nothing.",
    ),
    "urgent": (
        "I was charged for {item} and never got it; to me that is theft.",
        "The seal was broken and {item} was gone. Somebody stole it.",
        "You left out {item} and put in something that I am allergic to.",
        "Taking money for {items} that nobody packs is fraud.",
    ),
}

_QUALITY = {
    "polite": (
        "{Item} arrived lukewarm and could be fresher.",
        "Sadly {item} was a bit too salty for us.",
        "The lid had come off, so {item} was all over the bag.",
        "{Item} tasted stale, as if it had been waiting for me.",
    ),
    "brief": (
        "{Item} was cold.",
        "Not good at all.",
        "{Item} inedible.",
        "{Item} dry and a little bland.",
    ),
    "upset": (
        "{Item} was burnt and we threw it away!",
        "Nobody here could eat {item}.",
        "Cold, soggy, tasteless: that was {item}.",
        "I did not pay for rancid grease, and {item} was swimming in it.",
    ),
    "ironic": (
        "{Item} had the temperature of a museum.",
        "If {item} was meant to bend like rubber, the kitchen succeeded.",
        "I did not know that {item} comes as a puddle at the bottom of the bag.",
        "{Item} was charred with such care that it must be art.",
    ),
    "chatty": (
        "I was looking forward to {item}, and then it was limp and slightly grey.",
        "My mother tried {item} too and only raised an eyebrow, which says it all.",
        "I gave {item} a second chance in the oven, but it was raw inside.",
        "Even the dog at {street} walked away from {item}.",
    ),
    "urgent": (
        "There was a hair in {item}.",
        "I felt sick after eating {item}.",
        "I bit on a piece of plastic in {item}.",
        "{Item} was undercooked, and now my son is at the doctor.",
    ),
}

_SERVICE = {
    "polite": (
        "The driver left the bag at a wrong entrance instead of {street} and was gone.",
        "I had written in the notes where to ring, but it seems nobody read them.",
        "Nobody picked up when I called about {item}.",
        "The driver was in a hurry and not very friendly.",
    ),
    "brief": (
        "Driver was rude.",
        "Bad service.",
        "Bag left at a wrong door near {street}.",
        "Nobody answers the phone.",
    ),
    "upset": (
        "The driver shouted at my neighbour in the stairwell!",
        "I asked for cutlery with {item} and was told to find my own.",
        "The driver threw the bag with {items} at my feet and laughed.",
        "I was left on hold until I gave up.",
    ),
    "ironic": (
        "The driver and I played hide and seek around {street}.",
        "Your hotline has lovely music; I know all of it now.",
        "The driver explained to me at length how doors work.",
        "I had no idea that handing over {item} needs so much sighing.",
    ),
    "chatty": (
        "I waved from the balcony at {street}, and the driver looked up and drove on around the"
        " block.",
        "I only wanted to ask about {item}, and the person on the phone simply hung up.",
        "The driver rang at every door of the house, so now all the neighbours know what I eat.",
        "I am a patient person, but being called lazy for not coming down is new to me.",
    ),
    "urgent": (
        "The driver threatened my neighbour in the stairwell of {street}.",
        "The driver used a racist word at my door.",
        "The driver stood in my hallway and would not leave; I felt unsafe.",
        "The person on the phone became abusive when I asked about {item}.",
    ),
}

_OTHER = {
    "polite": (
        "I would like a proper receipt for {items}.",
        "The bag with {item} was soaked when it arrived.",
        "I tried to change my address after ordering and could not find out how.",
        "Could you say on the menu what is in {item}?",
    ),
    "brief": (
        "Please send a receipt.",
        "Too much plastic around {item}.",
        "Not what I expected.",
        "{Item} is smaller than on the picture.",
    ),
    "upset": (
        "The picture of {item} in the app has nothing to do with what I got!",
        "You send me messages all the time, and none of them can be switched off.",
        "The app logged me out while I was paying for {items}.",
        "So much rubbish for {item}: my bin at {street} is full.",
    ),
    "ironic": (
        "Thank you for the many napkins; I can now paper my room.",
        "The picture of {item} must have been taken with a very strong lens.",
        "Your app asked me to rate {item} before I had opened the bag.",
        "I collect stickers, and {item} was covered with them.",
    ),
    "chatty": (
        "I wanted to show my aunt what {item} is made of, and we could not find it anywhere.",
        "We have no bin for so much packaging at {street}, so it now lives on the balcony.",
        "I would love to order {item} less spicy, but your app does not let me.",
        "The portion of {item} and my appetite did not get along.",
    ),
    "urgent": (
        "My card was charged without my consent.",
        "Nowhere does it say what is in {item}, and my daughter is allergic to nuts.",
        "Stop calling my phone, or I will take legal action.",
        "I am reporting your kitchen to the health department.",
    ),
}

COMPLAINT_CORES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "delivery_delay": MappingProxyType(_DELAY),
        "missing_items": MappingProxyType(_MISSING),
        "food_quality": MappingProxyType(_QUALITY),
        "service_issue": MappingProxyType(_SERVICE),
        "other": MappingProxyType(_OTHER),
    }
)
"""What is said, by category and tone; as many sentences for each, so that one number finds one."""
