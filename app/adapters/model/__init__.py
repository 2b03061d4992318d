"""A language model that reads documents and words products, behind `pipeline.ports.Model`.

schema     what it must answer: strict shapes, money as text, no open maps
prompt     what it is told: instructions first (they are cached), the document last and as data
client     how it is asked: one request, one deadline, and a vendor's answer turned into our errors
evidence   where a value stands in the document's text
checking   what its answer is worth: ranges, evidence, doubts; nothing is believed because it was said
port       the port, in terms of the above
"""

from app.adapters.model.client import ModelConfig
from app.adapters.model.port import OpenAIModel

__all__ = ["ModelConfig", "OpenAIModel"]
