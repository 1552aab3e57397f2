"""Files of unknown form -> what is in them, and settings that read them."""
