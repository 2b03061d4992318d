"""where an order was announced, and units nobody had announced

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: both columns have defaults, so workers of the release before go on writing beside this one."""
    op.add_column(
        "purchase_orders", sa.Column("location_id", sa.Text(), server_default="", nullable=False), schema="po"
    )
    op.add_column(
        "order_variants", sa.Column("surplus", sa.Integer(), server_default="0", nullable=False), schema="po"
    )
    # What was announced before stays where the journal says it was.
    op.execute(
        """
        UPDATE po.purchase_orders AS orders
        SET location_id = announced.location_id
        FROM (
            SELECT DISTINCT ON (runs.order_id) runs.order_id, stage_runs.output ->> 'location_id' AS location_id
            FROM po.stage_runs JOIN po.runs ON runs.id = stage_runs.run_id
            WHERE runs.kind = 'order' AND stage_runs.output_type = 'ShopSync' AND stage_runs.state = 'finished'
              AND stage_runs.output -> 'stock' <> '[]'::jsonb
            ORDER BY runs.order_id, stage_runs.started_at
        ) AS announced
        WHERE announced.order_id = orders.id AND announced.location_id <> ''
        """
    )
    op.execute(
        """
        UPDATE po.order_variants SET surplus = received + rejected - announced
        WHERE received + rejected > announced
        """
    )


def downgrade() -> None:
    """Forget both."""
    op.drop_column("order_variants", "surplus", schema="po")
    op.drop_column("purchase_orders", "location_id", schema="po")
