"""Boosted models: XGBoost, LightGBM and CatBoost."""
