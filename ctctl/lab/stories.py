"""The stories that ``ctctl lab run`` tells: one per path through the datapath, with real traffic.

What each expects is docs/reference/datapath.md; the numbers of addresses and ports are the topology's.
"""

from __future__ import annotations

from ctctl.errors import UsageError
from ctctl.lab.story import Story
from ctctl.lab.story_modes import MODE_STORIES
from ctctl.lab.story_pods import POD_STORIES
from ctctl.lab.story_services import SERVICE_STORIES

STORIES: dict[str, Story] = {story.name: story for story in (*POD_STORIES, *SERVICE_STORIES, *MODE_STORIES)}


def find_story(name: str) -> Story:
    """The story called ``name``. Raises UsageError that names the nearest."""
    if name in STORIES:
        return STORIES[name]
    from ctctl.model.suggest import unknown_name

    raise UsageError(unknown_name("story", name, STORIES))
