"""runs by their last change

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: an index alone. What watches the orders asks every second for those that changed since."""
    op.create_index("ix_runs_updated_at", "runs", ["updated_at"], schema="po")


def downgrade() -> None:
    """Forget it."""
    op.drop_index("ix_runs_updated_at", "runs", schema="po")
