"""Boosted models of XGBoost, LightGBM and CatBoost."""
