"""The version of the product: of the distribution, of both images and of the chart's appVersion."""

VERSION = "0.1.0"
