"""ending orders, and the shipments that carry their goods

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('receipts', sa.Column('action', sa.Text(), server_default='receive', nullable=False), schema='po')
    op.create_table(
        'shipments',
        sa.Column('id', sa.Text(), nullable=False),
        sa.Column('order_id', sa.Text(), nullable=False),
        sa.Column('transfer_id', sa.Text(), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), server_default=sa.text('now()'), nullable=False),
        sa.ForeignKeyConstraint(['order_id'], ['po.purchase_orders.id'], name=op.f('fk_shipments_order_id')),
        sa.PrimaryKeyConstraint('id', name=op.f('pk_shipments')),
        schema='po',
    )
    op.create_index('ix_shipments_order_id', 'shipments', ['order_id'], schema='po')
    op.create_table(
        'shipment_lines',
        sa.Column('shipment_id', sa.Text(), nullable=False),
        sa.Column('inventory_item_id', sa.Text(), nullable=False),
        sa.Column('shipped', sa.Integer(), nullable=False),
        sa.Column('taken_back', sa.Integer(), server_default='0', nullable=False),
        sa.Column('accepted', sa.Integer(), server_default='0', nullable=False),
        sa.Column('rejected', sa.Integer(), server_default='0', nullable=False),
        sa.ForeignKeyConstraint(['shipment_id'], ['po.shipments.id'], name=op.f('fk_shipment_lines_shipment_id')),
        sa.PrimaryKeyConstraint('shipment_id', 'inventory_item_id', name=op.f('pk_shipment_lines')),
        schema='po',
    )


def downgrade() -> None:
    op.drop_table('shipment_lines', schema='po')
    op.drop_index('ix_shipments_order_id', table_name='shipments', schema='po')
    op.drop_table('shipments', schema='po')
    op.drop_column('receipts', 'action', schema='po')
