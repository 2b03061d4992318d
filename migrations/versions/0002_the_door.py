"""the door to the line: since when a run is parked

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('runs', sa.Column('parked_at', sa.DateTime(timezone=True), nullable=True), schema='po')
    op.create_index(
        'ix_runs_in_line', 'runs', ['merchant_id'], schema='po',
        postgresql_where=sa.text("state = 'running' AND fence > 0"),
    )
    op.create_index(
        'ix_runs_parked', 'runs', ['merchant_id', 'created_at', 'id'], schema='po',
        postgresql_where=sa.text('parked_at IS NOT NULL'),
    )


def downgrade() -> None:
    op.drop_index('ix_runs_parked', table_name='runs', schema='po')
    op.drop_index('ix_runs_in_line', table_name='runs', schema='po')
    op.drop_column('runs', 'parked_at', schema='po')
