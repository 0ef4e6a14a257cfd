# SPDX-License-Identifier: Apache-2.0
"""Objects of the chart that docs/deploy.md names are there."""
import unittest

import chart


class Objects(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        chart.need()

    def test_objects_that_are_named_are_there(self):
        release = chart.yaml.safe_load_all(chart.helm("template", "router", chart.CHART, "--kube-version", chart.OLDEST + ".0")[1])
        names = {(o["kind"].lower(), o["metadata"]["name"]) for o in release if o}
        self.assertIn(("configmap", "router-jetrouter-bridge-sidecar"), names)
        self.assertIn(("deployment", "router-jetrouter"), names)


if __name__ == "__main__":
    chart.use_venv(__file__)
    unittest.main()
