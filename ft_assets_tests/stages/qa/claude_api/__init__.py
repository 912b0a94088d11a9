"""The parts of the Anthropic server on loopback: see `ft_assets_tests.stages.qa.claude_server`."""
