"""assesslevels: estimated levels and a gauge -> figures."""

from __future__ import annotations

from qgis.core import QgsProcessing, QgsProcessingOutputNumber, QgsProcessingParameterFeatureSource, QgsProcessingParameterFileDestination

from ..engine.settings import AssessLevelsConfig
from .base import ASSESS, WaterAlgorithm, explain

_NUMBERS = (
    ("N", "Levels compared"), ("R2", "R²"), ("RMSE", "RMSE in m"), ("MAE", "Mean absolute error in m"), ("BIAS", "Mean error in m"),
    ("NSE", "Nash-Sutcliffe efficiency"), ("DAYS_OFF", "Levels that are off by more than the limit"), ("COVERAGE", "Share of levels inside their interval"),
)  # fmt: skip


class AssessLevels(WaterAlgorithm):
    NAME, TITLE, GROUP, CONFIG, PURPOSES = "assesslevels", "Assess levels", ASSESS, AssessLevelsConfig, ("report",)
    TAGS = ("water level", "reservoir", "gauge", "stage", "rmse", "nash", "sutcliffe", "nse", "dam")
    HELP = (
        "Compares water levels with those that a gauge has read: R², Nash-Sutcliffe efficiency, RMSE, mean error, how many are off by more than a limit, and how many "
        "lie inside their prediction interval; for each method, each reservoir, and apart for dates that a model was trained with and others. "
        "Takes the layer or the table of Estimate level, or any table with dates and levels in m. Figures of dates that a model was trained with say nothing about "
        "new dates, so that those at the top leave them out."
    )

    def data_parameters(self):
        table = [QgsProcessing.SourceType.TypeVector]
        return [
            explain(QgsProcessingParameterFeatureSource("ESTIMATES", "Estimated levels", table), "The layer or CSV of Estimate level, or another table with columns for reservoir, date and level in m. Without a column of reservoirs all are of one."),
            explain(QgsProcessingParameterFeatureSource("GAUGE", "Gauge table", table, optional=True), "What the gauge read: a CSV or layer with reservoir, date and level. Empty: the observed levels that Estimate level has put beside its own."),
        ], [
            explain(QgsProcessingParameterFileDestination("REPORT", "Report", "HTML files (*.html)", optional=True), "All figures, with charts of each reservoir, in one file."),
            explain(QgsProcessingParameterFileDestination("CSV", "Table", "CSV files (*.csv)", optional=True, createByDefault=False), "A line for each method, reservoir and part of the dates."),
            explain(QgsProcessingParameterFileDestination("JSON", "Figures as JSON", "JSON files (*.json)", optional=True, createByDefault=False), "All figures, for programs."),
            *(QgsProcessingOutputNumber(name, text) for name, text in _NUMBERS),
        ]  # fmt: skip

    def work(self, data, config, progress):
        from ..engine.level.assessment.assess import assess_levels

        found = assess_levels(
            data.vector("ESTIMATES"), config, gauge_table=data.vector("GAUGE"), report=data.output("REPORT"), csv=data.output("CSV"),
            json_path=data.output("JSON"), progress=progress,
        )  # fmt: skip
        for line in found.lines():
            progress(1, line)
        return {name: value for name, value in found.numbers().items() if value is not None}
