"""The brands, their menus and where each of them sells: the business's catalogue as data.

Every brand and dish is invented. Contract: docs/contracts.md, Dataset, the dimensions.
"""

from dataclasses import dataclass
from functools import cache

__all__ = ["Brand", "Dish", "Listing", "brands", "listings"]


@dataclass(frozen=True, slots=True)
class Dish:
    """An item on a menu.

    Args:
        id: the item's id, unique over all brands.
        category_id: the part of the menu it stands in, unique over all brands.
        category: that part's name.
        name: the dish's name.
        price_cents: price in US cents.
    """

    id: int
    category_id: int
    category: str
    name: str
    price_cents: int


@dataclass(frozen=True, slots=True)
class Brand:
    """A virtual restaurant with one menu, which has the brand's id.

    Args:
        id: the brand's id, from 1.
        name: its name.
        cuisine: what it cooks.
        prep_minutes: time that an average order takes in a kitchen without load.
        dishes: its menu, by category.
    """

    id: int
    name: str
    cuisine: str
    prep_minutes: int
    dishes: tuple[Dish, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A brand at a location.

    Args:
        id: the listing's id, from 1.
        brand_id: the brand.
        location_id: the location.
        start_day: first day on which it sells (0 = the dataset's first day).
        end_day: last day on which it sells, or None while it goes on.
        trajectory: its story in one word.
        growth_monthly: change of its popularity per 30 days (0.1 = ten percent).
        popularity: its weight among the location's brands on its first day.
    """

    id: int
    brand_id: int
    location_id: int
    start_day: int
    end_day: int | None
    trajectory: str
    growth_monthly: float
    popularity: int


# A brand: name | cuisine | prep minutes, then lines of "Category: dish price; dish price"; a line
# that begins with two spaces goes on with the category above it.
_MENUS = """
Marrow & Moon | Korean grill | 14
Bowls: Moonrice Bulgogi Bowl 14.50; Gochu Drift Chicken Bowl 13.75; Quietleaf Tofu Bowl 12.95
Grill Boxes: Emberjaw Short Rib Box 19.50; Smokelane Pork Belly Box 17.25;
  Glass Noodle Lantern 13.50
Sides: Thunder Kimchi 4.75; Pocket Mandu 7.50; Scallion Halo Pancake 8.25; Crackle Seaweed 3.95
Drinks: Barley Hush Tea 3.25; Plum Static Soda 3.95

Tortuga Lantern | Mexican | 11
Tacos: Harborfire Al Pastor Trio 11.95; Slowtide Barbacoa Trio 12.95; Cactus Parade Trio 10.50
Burritos: Lantern Keeper Burrito 12.75; Dockside Shrimp Burrito 14.25;
  Blackbean Voyage Burrito 11.25
Plates: Mole Meridian Plate 15.95; Verde Undertow Enchiladas 14.50
Extras: Driftwood Guacamole 6.50; Elote Buoys 5.25; Captain's Churros 5.95; Hibiscus Wake 3.75

Basil Parliament | Italian pasta | 13
Pasta: Senate Cacio Spirals 13.95; Filibuster Ragu 15.50; Pesto Majority 14.25;
  Vodka Caucus Rigatoni 14.95
Baked: Coalition Lasagne 15.95; Eggplant Accord 14.50; Gavel Gnocchi Bake 15.25
Salads: Speaker's Caesar 9.50; Burrata Motion 11.75
Sweets: Tiramisu Recess 7.25; Lemon Amendment 6.50

Volt & Brisket | Barbecue | 16
Smoked Plates: Ten Amp Brisket 18.95; Dynamo Pulled Pork 15.50; Fuse Box Ribs 21.50;
  Coil Sausage Duo 14.25
Sandwiches: Circuit Breaker Sandwich 13.95; Grounded Turkey Melt 12.75; Jackfruit Switch 12.50
Sides: Static Slaw 4.25; Copper Beans 4.75; Resistor Mac 6.50; Cornbread Cells 4.50
Drinks: Peach Current Tea 3.50; Lemon Surge 3.50

Paper Crane Ramen | Japanese noodles | 12
Ramen: First Fold Shoyu 14.50; Deep Crease Tonkotsu 15.95; Red Wing Spicy Miso 15.50;
  Meadow Fold Veggie 13.95
Rice: Crane Katsu Curry 14.75; Origami Salmon Don 16.50
Small Plates: Corner Gyoza 7.25; Karaage Flutter 8.50; Cucumber Snap 4.95; Nori Pillow Eggs 3.75
Drinks: Yuzu Glide 4.25; Roasted Green Drift 3.25

Saffron Switchboard | North Indian | 15
Curries: Operator's Butter Chicken 15.50; Longline Lamb Rogan 17.75; Paneer Party Line 14.25;
  Chana Relay 12.50
Biryani: Exchange Chicken Biryani 15.25; Garden Circuit Biryani 13.75
Breads: Garlic Dial Naan 3.95; Plain Tone Roti 2.75; Cheese Hotline Kulcha 5.25
Starters: Crossed Wire Samosas 6.25; Tandoor Signal Tikka 11.50
Drinks: Mango Callback Lassi 4.75; Cardamom Busy Chai 3.50

The Polite Burger | Burgers | 9
Burgers: After You Classic 10.95; Much Obliged Double 13.95; Beg Your Bacon 13.25;
  Kindly Mushroom 11.75
Chicken: Pardon Me Crispy 11.95; Well Mannered Grilled 11.50
Sides: Thank You Fries 4.25; Courtesy Rings 5.50; Considerate Slaw 3.75
Shakes: Vanilla Bow 5.95; Cocoa Curtsy 5.95; Salted Handshake 6.25

Fern & Ferment | Salads and grain bowls | 7
Grain Bowls: Canopy Farro 13.25; Understory Quinoa 12.95; Mossline Salmon 16.25;
  Trailhead Chicken 14.50
Salads: Brinewood Caesar 11.50; Beet Clearing 11.95; Citrus Thicket 12.25
Soups: Lichen Lentil 7.25; Tomato Spore 6.95
Ferments: Jar Room Pickles 4.50; Ginger Mother 4.75; Turmeric Fizz 4.75

Dough Observatory | Pizza | 14
Red Pies: Margherita Eclipse 15.50; Pepperoni Perihelion 17.75; Sausage Syzygy 18.25;
  Nebula Diavola 17.95
White Pies: Lunar Ricotta 16.75; Potato Parallax 16.25; Mushroom Umbra 17.25
Sides: Garlic Satellites 6.25; Comet Wings 10.95; Arugula Orbit 8.50
Sweets: Cinnamon Asteroids 5.95; Hazelnut Event Horizon 7.50

Pho Cartographer | Vietnamese | 10
Pho: Compass Beef Pho 14.25; Latitude Chicken Pho 13.50; Uncharted Veggie Pho 12.95;
  Full Atlas Pho 16.50
Banh Mi: Legend Pork Banh Mi 10.50; Contour Tofu Banh Mi 9.75; Isobar Chicken Banh Mi 10.25
Vermicelli: Delta Shrimp Bun 14.50; Ridge Pork Bun 13.95
Starters: Survey Summer Rolls 7.50; Scale Bar Egg Rolls 7.25
Drinks: Meridian Iced Coffee 4.75; Salted Lime Datum 3.95

Golden Hinge | Cantonese | 12
Dim Sum: Hinge Har Gow 7.95; Doorstep Siu Mai 7.50; Latchkey Bao 6.95; Turnip Threshold 6.50
Wok: Brass Knob Beef Fun 14.95; Kung Pao Keyhole 13.75; Eggplant Archway 12.50;
  Lacquer Duck Rice 17.50
Vegetables: Gai Lan Gate 8.25; Long Bean Banister 8.95
Drinks: Chrysanthemum Latch 3.50; Milk Tea Mortise 4.50

Olive Semaphore | Greek | 10
Wraps: Signal Lamb Gyro 12.25; Flag Chicken Souvlaki 11.75; Halloumi Beacon 11.50;
  Falafel Flare 10.75
Plates: Harbor Mixed Grill 18.50; Moussaka Mast 15.25
Mezze: Hummus Ensign 6.50; Tzatziki Pennant 5.25; Dolma Dispatch 6.95
Sweets: Baklava Morse 5.50; Honey Lookout Yogurt 5.25

Midnight Dumpling Depot | Late-night dumplings | 8
Dumplings: Last Train Pork Dozen 11.25; Signalman Chicken Dozen 11.25; Platform Chive Dozen 10.50
Noodles: Sidecar Sesame Noodles 10.95; Nightshift Dan Dan 12.50; Switchyard Chow Mein 11.75
Snacks: Caboose Wings 9.95; Ticket Stub Fries 5.50; Boxcar Bao 6.25
Sweets: Black Sesame Sleeper 5.75; Mochi Baggage 5.25
Drinks: Red Eye Cola 2.95; Taro Timetable 4.95

Cinder Creek Chicken | Fried chicken | 11
Chicken: Creekbed Three Piece 12.50; Ashbank Tenders 11.75; Slow Ember Hot Quarter 12.95;
  Cinder Bucket 26.50
Sandwiches: Footbridge Sandwich 11.25; Hot Gravel Sandwich 11.95
Sides: Mudflat Mash 4.50; Pebble Okra 4.95; Bankside Biscuits 4.25; Reedy Greens 4.75
Drinks: Sassafras Rill 3.25; Sweet Eddy Tea 2.95

Plum Rotary | Thai | 12
Curries: Roundabout Red Curry 14.25; Green Yield Curry 14.25; Massaman Merge 15.50;
  Yellow Exit Curry 13.75
Noodles: Pad Thai Clockwise 13.50; Drunken Detour 14.25; Pad See Signal 13.75
Starters: Satay Spokes 8.75; Papaya Swerve 8.95; Traffic Cone Rolls 6.75
Drinks: Orange Lane Iced Tea 4.50; Lemongrass Idle 3.95

Hearth Ledger | American comfort | 13
Mains: Balance Due Meatloaf 15.25; Potpie Principal 14.75; Carryover Roast 17.50;
  Stroganoff Surplus 14.95
Bowls: Petty Cash Chili 10.50; Interest Bearing Mac 11.95
Sides: Column Mash 4.75; Receipt Green Beans 4.50; Dividend Rolls 3.75
Sweets: Apple Audit 6.75; Brownie Bonus 5.25; Pudding Accrual 4.95

Tidepool Poke | Hawaiian poke | 7
Bowls: Anemone Ahi 16.50; Urchin Salmon 16.25; Barnacle Tofu 13.25; Kelp Line Shrimp 15.50;
  Low Tide Octopus 17.25
Sides: Sandbar Mac Salad 4.25; Foam Edamame 4.75; Rockweed Salad 5.25
Musubi: Driftlog Musubi 4.95; Lagoon Egg Musubi 4.50
Drinks: Guava Ripple 3.95; Passionfruit Spray 3.95

Cedar & Sumac | Lebanese | 11
Wraps: Grove Shawarma 12.50; Bark Beef Kafta 12.95; Cauliflower Bough 11.25
Plates: Timberline Mixed Plate 18.25; Sumac Half Chicken 17.50; Lentil Root Mujadara 12.50
Mezze: Smoke Ring Baba 6.75; Fattoush Canopy 8.50; Pine Needle Labneh 5.95; Kibbeh Cones 7.95
Drinks: Rosewater Sap 3.95; Mint Resin Lemonade 4.25

Waffle Seminar | All-day breakfast | 8
Waffles: Syllabus Classic 9.75; Thesis Chicken Waffle 14.50; Berry Lecture 11.50;
  Peer Review Banana 11.25
Eggs: Office Hours Omelette 12.25; Footnote Scramble 11.50; Tenure Track Benedict 14.25
Sides: Citation Bacon 4.75; Hashbrown Abstract 4.50; Fruit Elective 5.25
Drinks: Cold Brew Colloquium 4.50; Orange Oral Exam 4.25

Iron Petal | Vegan kitchen | 10
Plates: Forged Seitan Steak 15.75; Anvil Mushroom Stew 13.50; Rivet Chickpea Loaf 13.95
Burgers: Petal Smash 12.75; Sparkplug Black Bean 12.25
Bowls: Bellows Buddha Bowl 13.25; Temper Tempeh Bowl 13.75; Quench Noodle Bowl 12.95
Sides: Filings Fries 4.75; Kale Weld 5.50
Sweets: Cocoa Ingot 6.25; Oat Alloy Cookie 3.95

Peppercorn Radio | Sichuan | 12
Mains: Wideband Mapo 13.25; Longwave Fish 17.95; Carrier Chicken 14.50; Twice Tuned Pork 14.95
Noodles: Frequency Dan Dan 12.50; Cold Channel Noodles 11.25
Vegetables: Dry Static Beans 10.25; Garlic Antenna Greens 9.75; Potato Shortwave 8.95
Starters: Wonton Broadcast 8.50; Cucumber Dial 5.95
Drinks: Herbal Hiss 3.50; Soy Sign-off 3.25

Little Gantry Bakehouse | Sandwiches and bakes | 6
Sandwiches: Crane Hook Turkey 11.50; Girder Roast Beef 12.75; Trestle Caprese 10.95;
  Pulley Tuna Melt 11.25
Toasts: Scaffold Avocado 9.50; Ricotta Rigging 8.95
Bakes: Almond Counterweight 4.95; Cinnamon Winch 4.75; Cocoa Crossbeam 4.50; Rye Ballast Loaf 8.50
Drinks: Flat Load Coffee 4.25; Steam Hoist Cocoa 4.50

Copper Heron Curry House | South Indian | 14
Dosas: Wading Masala Dosa 11.75; Ghee Plume Dosa 11.25; Paneer Perch Dosa 13.25
Curries: Marsh Fish Curry 16.95; Heron Pepper Chicken 15.25; Coconut Reedbed 13.25
Rice: Estuary Lemon Rice 8.75; Tamarind Roost 8.95
Snacks: Nest Idli 7.50; Still Water Vada 7.25; Chili Beak Gobi 9.50
Drinks: Filter Feather Coffee 4.25; Buttermilk Shallows 3.50

Sugar Theorem | Desserts | 5
Cakes: Lemma Lemon Slice 6.95; Proof Chocolate Tower 7.95; Carrot Corollary 7.25;
  Axiom Cheesecake 7.75
Cookies: Prime Number Sables 5.50; Fractal Chip Cookies 5.95; Ginger Integers 5.25
Frozen: Vanilla Variable 6.25; Mango Modulus 6.25; Pistachio Postulate 6.75
Drinks: Steamed Sigma Milk 4.25; Cocoa Conjecture 4.75
"""

# brand, location, first day, last day ("-" goes on), trajectory, growth in percent a month, weight
_LISTINGS = """
1 1 0 - rising 12 60
1 2 0 - rising 15 40
1 3 0 - steady 0 45
1 4 0 55 exit -20 30
2 1 0 - steady 2 75
2 2 0 - steady 3 55
2 4 0 - steady 0 70
3 1 0 - steady 0 50
3 3 0 - steady 0 60
3 4 0 - fading -8 65
4 1 21 - launch 18 25
4 3 0 - steady 0 40
4 4 0 - steady -2 80
5 1 0 - rising 10 65
5 2 0 - rising 14 60
5 3 0 - steady 2 65
6 1 0 - steady 3 45
6 2 0 - rising 10 70
6 3 0 - steady 1 55
7 1 0 - steady 0 70
7 2 0 - steady 0 50
7 3 0 - steady 0 60
7 4 0 - steady -3 75
8 1 0 - rising 8 55
8 2 28 - launch 16 30
8 3 0 - steady 2 50
9 1 0 - steady 0 60
9 3 0 - steady 0 55
9 4 0 - steady -1 90
10 1 0 - rising 6 50
10 2 0 - steady 4 55
10 3 14 - launch 12 30
11 1 0 - steady 0 50
11 2 0 - steady 2 45
12 1 0 41 exit -15 25
12 3 0 - steady 0 35
12 4 0 - steady -2 50
13 2 0 - rising 20 80
13 1 35 - launch 22 25
14 1 0 - steady 2 45
14 3 0 62 exit -12 35
14 4 0 - steady 0 70
15 1 0 - steady 3 50
15 2 0 - steady 5 45
15 3 0 - steady 0 45
16 3 0 - fading -5 40
16 4 0 - fading -10 60
17 1 0 - rising 9 50
17 2 7 - launch 12 30
17 3 0 - steady 0 40
18 1 14 - launch 10 30
18 4 0 - steady 2 45
19 1 0 - steady 0 40
19 3 0 - steady 1 35
19 4 0 70 exit -18 30
20 1 0 - rising 14 35
20 2 42 - launch 15 25
21 2 0 - rising 12 50
21 4 30 - launch 8 30
22 1 0 - steady 0 35
22 3 0 - steady 0 45
22 4 0 - fading -6 40
23 2 0 - rising 13 55
23 3 49 - launch 10 25
24 1 0 - steady 4 25
24 2 0 - rising 8 35
24 4 0 27 exit -25 15
"""


@cache
def brands() -> tuple[Brand, ...]:
    """Every brand with its menu; ids count from 1 in the order of the catalogue."""
    found: list[Brand] = []
    items = categories = 0
    for number, block in enumerate(_MENUS.strip().replace("\n  ", " ").split("\n\n"), start=1):
        head, *lines = block.splitlines()
        name, cuisine, minutes = (part.strip() for part in head.split("|"))
        dishes: list[Dish] = []
        for line in lines:
            category, _, listed = line.partition(": ")
            categories += 1
            for entry in listed.split("; "):
                dish, _, price = entry.rpartition(" ")
                dollars, _, cents = price.partition(".")
                items += 1
                dishes.append(
                    Dish(items, categories, category, dish, int(dollars) * 100 + int(cents))
                )
        found.append(Brand(number, name, cuisine, int(minutes), tuple(dishes)))
    return tuple(found)


@cache
def listings() -> tuple[Listing, ...]:
    """Every brand at every location where it sells at some time."""
    found: list[Listing] = []
    for number, line in enumerate(_LISTINGS.strip().splitlines(), start=1):
        brand, location, start, end, trajectory, percent, weight = line.split()
        found.append(
            Listing(
                id=number,
                brand_id=int(brand),
                location_id=int(location),
                start_day=int(start),
                end_day=None if end == "-" else int(end),
                trajectory=trajectory,
                growth_monthly=int(percent) / 100,
                popularity=int(weight),
            )
        )
    return tuple(found)
