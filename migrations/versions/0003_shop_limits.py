"""a shop's points shared by all replicas, and whether it may be called

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'shop_points',
        sa.Column('merchant_id', sa.Text(), nullable=False),
        sa.Column('level', sa.Float(), nullable=False),
        sa.Column('level_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('size', sa.Float(), nullable=False),
        sa.Column('restore_rate', sa.Float(), nullable=False),
        sa.Column('known', sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['po.merchants.id'], name='fk_shop_points_merchant_id', ondelete='CASCADE'
        ),
        sa.PrimaryKeyConstraint('merchant_id', name='pk_shop_points'),
        schema='po',
    )
    op.create_table(
        'shop_states',
        sa.Column('merchant_id', sa.Text(), nullable=False),
        sa.Column('parked_reason', sa.Text(), server_default='', nullable=False),
        sa.Column('parked_operation', sa.Text(), server_default='', nullable=False),
        sa.Column('parked_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('tripped_reason', sa.Text(), server_default='', nullable=False),
        sa.Column('tripped_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('trips', sa.Integer(), server_default='0', nullable=False),
        sa.Column('ask_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('version_asked', sa.Text(), server_default='', nullable=False),
        sa.Column('version_served', sa.Text(), server_default='', nullable=False),
        sa.Column(
            'scopes',
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
        sa.Column('scopes_at', sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ['merchant_id'], ['po.merchants.id'], name='fk_shop_states_merchant_id', ondelete='CASCADE'
        ),
        sa.PrimaryKeyConstraint('merchant_id', name='pk_shop_states'),
        schema='po',
    )


def downgrade() -> None:
    op.drop_table('shop_states', schema='po')
    op.drop_table('shop_points', schema='po')
