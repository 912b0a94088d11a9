"""`python -m ft_assets.cli`."""

from ft_assets.cli import main

if __name__ == "__main__":
    main()
