from world import Scenario

SCENARIOS: dict[str, Scenario] = {}
ALONE = ()
