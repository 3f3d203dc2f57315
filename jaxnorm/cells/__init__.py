"""Recurrent cells: frozen specs of five verbs, and the presets."""
