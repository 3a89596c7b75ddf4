"""What the page `explore` shows: vectors of recordings with places, labels and sounds; maps kept on disk; labels written."""
