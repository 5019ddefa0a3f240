"""Language consistency: the share of a text's words that are in one language."""

from r1mega.reward.language.consistency import WordCount, count_words, language_share

__all__ = ["WordCount", "count_words", "language_share"]
