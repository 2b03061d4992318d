"""how a shop's token is got again, and what Shopify tells us unasked

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
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
    op.create_table(
        'webhook_events',
        sa.Column('shop_domain', sa.Text(), nullable=False),
        sa.Column('webhook_id', sa.Text(), nullable=False),
        sa.Column('merchant_id', sa.Text(), nullable=False),
        sa.Column('topic', sa.Text(), nullable=False),
        sa.Column('triggered_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('received_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('facts', postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column('state', sa.Text(), server_default='waiting', nullable=False),
        sa.Column('note', sa.Text(), server_default='', nullable=False),
        sa.Column('tries', sa.Integer(), server_default='0', nullable=False),
        sa.Column('due_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.Column('handled_at', sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(['merchant_id'], ['po.merchants.id'], name=op.f('fk_webhook_events_merchant_id')),
        sa.PrimaryKeyConstraint('shop_domain', 'webhook_id', name=op.f('pk_webhook_events')),
        schema='po',
    )
    op.create_index(
        'ix_webhook_events_due', 'webhook_events', ['due_at'], schema='po',
        postgresql_where=sa.text("state IN ('waiting', 'unhandled')"),
    )
    op.create_index('ix_webhook_events_merchant_id', 'webhook_events', ['merchant_id'], schema='po')
    op.create_index('ix_webhook_events_received_at', 'webhook_events', ['received_at'], schema='po')


def downgrade() -> None:
    op.drop_table('webhook_events', schema='po')
    op.drop_table('shop_grants', schema='po')
