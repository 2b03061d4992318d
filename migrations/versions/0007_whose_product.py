"""whose product a draft became, and what a person said it is

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ('matched_by', 'choice'):
        op.add_column('product_drafts', sa.Column(name, sa.Text(), server_default='', nullable=False), schema='po')
    op.add_column('product_drafts', sa.Column('choices', sa.Integer(), server_default='0', nullable=False), schema='po')
    op.create_index(
        'ix_draft_variants_gtin', 'draft_variants', ['gtin'], schema='po',
        postgresql_where=sa.text("gtin <> '' AND variant_id <> ''"),
    )


def downgrade() -> None:
    op.drop_index('ix_draft_variants_gtin', table_name='draft_variants', schema='po')
    for name in ('choices', 'choice', 'matched_by'):
        op.drop_column('product_drafts', name, schema='po')
