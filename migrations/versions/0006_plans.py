"""plans: what a person approved, as it was read from the shop

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'plans',
        sa.Column('run_id', sa.Text(), nullable=False),
        sa.Column('entry', sa.Integer(), nullable=False),
        sa.Column('digest', sa.Text(), nullable=False),
        sa.Column('content', postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column('read_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('approved_by', sa.Text(), server_default='', nullable=False),
        sa.Column('approved_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.ForeignKeyConstraint(['run_id'], ['po.runs.id'], name='fk_plans_run_id'),
        sa.PrimaryKeyConstraint('run_id', 'entry', name='pk_plans'),
        schema='po',
    )


def downgrade() -> None:
    op.drop_table('plans', schema='po')
