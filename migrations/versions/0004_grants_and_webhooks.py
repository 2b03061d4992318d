"""how a shop's token is got again

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'shop_grants',
        sa.Column('merchant_id', sa.Text(), nullable=False),
        sa.Column('kind', sa.Text(), nullable=False),
        sa.Column('client_id', sa.Text(), server_default='', nullable=False),
        sa.Column('client_secret_sealed', sa.LargeBinary(), nullable=True),
        sa.Column('refresh_token_sealed', sa.LargeBinary(), nullable=True),
        sa.Column('spare_refresh_token_sealed', sa.LargeBinary(), nullable=True),
        sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
        sa.Column('generation', sa.Integer(), server_default='0', nullable=False),
        sa.Column('renewing_by', sa.Text(), server_default='', nullable=False),
        sa.Column('renewing_until', sa.DateTime(timezone=True), nullable=True),
        sa.Column('trouble', sa.Text(), server_default='', nullable=False),
        sa.Column('connected_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('renewed_at', sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(['merchant_id'], ['po.merchants.id'], name=op.f('fk_shop_grants_merchant_id')),
        sa.PrimaryKeyConstraint('merchant_id', name=op.f('pk_shop_grants')),
        schema='po',
    )


def downgrade() -> None:
    op.drop_table('shop_grants', schema='po')
